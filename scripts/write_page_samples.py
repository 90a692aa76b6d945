"""Write the page's sample images, one per class, from the golden images of a published version.

    python -m scripts.write_page_samples

The golden images are the first of the test set. Most are classified correctly by every model. The small networks are
unsure of the airplane, the deer and the dog, and some mistake the bird for a cat. The horse is a mistake of the most
accurate model, and an unsure one.
"""

import sys
from pathlib import Path

from PIL import Image

from cifar10_serving.artifacts.layout import read_metadata, version_folder
from cifar10_serving.runtimes.golden import read_golden
from service.api.page import WEB

ROOT = Path(__file__).resolve().parent.parent
POSITIONS = {
    "airplane": 3,
    "automobile": 9,
    "bird": 25,
    "cat": 46,
    "deer": 26,
    "dog": 12,
    "frog": 7,
    "horse": 20,
    "ship": 1,
    "truck": 14,
}


def main() -> int:
    """Write the files."""
    folder = version_folder(ROOT / "models", "sequential", 1)
    golden, labels = read_golden(folder / "golden.npz"), read_metadata(folder).labels
    for label, position in POSITIONS.items():
        if labels[golden.labels[position]] != label:
            raise ValueError(f"test image {position} is not labelled {label}")
        file = WEB / "samples" / f"{label}_{position:04}.png"
        Image.fromarray(golden.images[position]).save(file, optimize=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
