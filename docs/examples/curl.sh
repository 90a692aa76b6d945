#!/bin/sh
# The API with curl. From the project's folder: docs/examples/curl.sh
set -eu
url=${CIFAR10_URL:-http://127.0.0.1:8000}
images=tests/images

# One image, as a form and as the body itself.
curl -sSf -w '\n' -F "file=@$images/cat_0008.png" "$url/predict"
curl -sSf -w '\n' --data-binary "@$images/ship_0001.png" -H 'Content-Type: image/png' "$url/predict?model=sequential&top_k=1"

# Several images in one request: one result for each, in order. A damaged image fails only its own result.
curl -sSf -w '\n' -F "files=@$images/cat_0008.png" -F "files=@$images/dog_0039.png" "$url/predict/batch?model=sequential"

# The answers of all models for one image, and which parts of it mattered to one of them.
curl -sSf -w '\n' -F "file=@$images/cat_0008.png" "$url/compare?top_k=1"
curl -sSf -w '\n' -F "file=@$images/cat_0008.png" "$url/explain?model=sequential&patch=16&stride=16"

# An error is a problem document (RFC 9457); without -f, curl prints it.
curl -sS -w '\n' -F "file=@$images/cat_0008.png" "$url/predict?model=unknown"
