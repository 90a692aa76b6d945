"""The HTTP service: loads published versions, answers with the classes of uploaded images."""
