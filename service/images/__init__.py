"""Images in requests: files of any format, decoded to the pixels that a version takes."""
