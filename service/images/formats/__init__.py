"""Image files before decoding: their structure, the size of their pixels, and a copy with nothing but the pixels."""
