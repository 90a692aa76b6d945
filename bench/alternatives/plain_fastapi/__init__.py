"""Plain FastAPI: UploadFile, Pillow, TensorFlow's signature in a thread pool."""
