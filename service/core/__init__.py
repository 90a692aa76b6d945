"""What the service does, without HTTP and without a framework: versions, admission, inference."""
