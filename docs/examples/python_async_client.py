"""Several models at once. From the project's folder: PYTHONPATH=. python docs/examples/python_async_client.py."""

import asyncio
import os

from cifar10_serving.client import AsyncClient


async def main() -> None:
    """Ask every ready model about one image, all at the same time."""
    async with AsyncClient(os.environ.get("CIFAR10_URL", "http://127.0.0.1:8000")) as client:
        ready = [model.name for model in (await client.models()).models if model.state == "ready"]
        predictions = await asyncio.gather(*(client.predict("tests/images/dog_0039.png", model=name) for name in ready))
        for prediction in predictions:
            print(f"{prediction.model}: {prediction.label}, {prediction.confidence:.1%}")


asyncio.run(main())
