"""The classes of two image files by Triton's client (pip install 'tritonclient[http]').

From the project's folder: python docs/examples/triton_client.py
"""

import os
from pathlib import Path

import numpy as np
import tritonclient.http as triton
from tritonclient.utils import InferenceServerException

FILES = [Path("tests/images/cat_0008.png"), Path("tests/images/ship_0001.png")]
ADDRESS = os.environ.get("CIFAR10_URL", "http://127.0.0.1:8000").removeprefix("http://")

with triton.InferenceServerClient(ADDRESS) as client:
    images = triton.InferInput("image_bytes", [len(FILES)], "BYTES")
    images.set_data_from_numpy(np.array([file.read_bytes() for file in FILES], np.object_))
    best = triton.InferRequestedOutput("probabilities", class_count=1)
    result = client.infer("sequential", [images], outputs=[best])
    for file, found in zip(FILES, result.as_numpy("probabilities"), strict=True):
        probability, _, label = found[0].decode().split(":")
        print(f"{file} {label}, {float(probability):.1%}")

    try:
        client.infer("unknown", [images])
    except InferenceServerException as error:
        print(error.message())
