"""The classes of a folder's images. From the project's folder: PYTHONPATH=. python docs/examples/python_client.py."""

import os
from pathlib import Path

from cifar10_serving.client import Client, ClientError

FOLDER = Path("tests/images")

with Client(os.environ.get("CIFAR10_URL", "http://127.0.0.1:8000")) as client:
    prediction = client.predict(FOLDER / "cat_0008.png", top_k=2)
    print(f"{prediction.label}, {prediction.confidence:.1%}, by {prediction.model} version {prediction.version}")

    # Any number of images, in order, a few at a time.
    for result in client.predict_many(sorted(FOLDER.glob("*.png")), model="sequential"):
        print(result.name, result.prediction.label if result.prediction else result.error)

    try:
        client.predict(FOLDER / "README.md")
    except ClientError as error:
        print(error)
