"""FastAPI with OpenVINO: UploadFile, Pillow, one inference request a thread."""
