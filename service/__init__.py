"""The service: loads published versions and classifies uploaded images, over HTTP and gRPC."""
