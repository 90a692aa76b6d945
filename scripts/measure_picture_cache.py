"""Measure how fast pictures are decoded into the cache of training, and how much memory it takes.

    python -m scripts.measure_picture_cache --pictures 5000 --image-size 32

It writes so many different JPEG files of 640x480 pixels into a temporary folder, links each of them `--links` times, so
that more files can be decoded than fit on the disk, decodes all, and reads every cached picture once in random order.
Links are copies for the data set, so it measures the cache alone.
"""

import argparse
import os
import tempfile
import time
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from training.data.listing import list_pictures
from training.data.picture_cache import DecodedPictures, decoded_pictures
from training.progress import Progress

CLASSES: Final = 10
WIDTH, HEIGHT = 640, 480
BATCH: Final = 128


def main() -> None:
    """Print seconds, pictures per second and the process's memory."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=5_000)
    parser.add_argument("--links", type=int, default=1, help="names for each file")
    parser.add_argument("--image-size", type=int, default=32)
    arguments = parser.parse_args()
    side = arguments.image_size
    with tempfile.TemporaryDirectory() as folder:
        photos, cache = Path(folder, "photos"), Path(folder, "cache")
        _write_photos(photos, arguments.pictures, arguments.links)
        before_mb = _memory_mb()["RssAnon"]
        start_s = time.monotonic()
        listing = list_pictures(photos)
        pictures = decoded_pictures(listing, (side, side, 3), folder=cache, progress=Progress())
        taken_s = time.monotonic() - start_s
        count = len(pictures.files)
        print(f"{count:,} JPEG files of {WIDTH}x{HEIGHT} to {side}x{side}: {taken_s:.1f} s, {count / taken_s:,.0f}/s")
        start_s = time.monotonic()
        decoded_pictures(list_pictures(photos), (side, side, 3), folder=cache, progress=Progress())
        print(f"a second run finds them in {time.monotonic() - start_s:.1f} s")
        start_s = time.monotonic()
        _read_all(pictures)
        print(f"reading all of them once in batches of {BATCH}, in random order: {time.monotonic() - start_s:.1f} s")
        memory = _memory_mb()
        print(
            f"memory: {before_mb:,.0f} MB before, {memory['RssAnon']:,.0f} MB after, at most {memory['VmHWM']:,.0f} MB "
            f"with {memory['RssFile']:,.0f} MB of files that the system may drop; the cache has "
            f"{sum(file.stat().st_size for file in cache.iterdir()) / 1e6:,.0f} MB"
        )


def _write_photos(folder: Path, pictures: int, links: int) -> None:
    random = np.random.default_rng(0)
    for number in range(CLASSES):
        (folder / f"class {number}").mkdir(parents=True)
    for number in range(pictures):
        coarse = random.integers(0, 256, (HEIGHT // 40, WIDTH // 40, 3), dtype=np.uint8)
        file = folder / f"class {number % CLASSES}" / f"{number:07}-0.jpg"
        Image.fromarray(coarse).resize((WIDTH, HEIGHT), Image.Resampling.BICUBIC).save(file, quality=85)
        for link in range(1, links):
            os.link(file, file.with_name(f"{number:07}-{link}.jpg"))


def _read_all(pictures: DecodedPictures) -> None:
    order = np.random.default_rng(0).permutation(len(pictures.images))
    for start in range(0, len(order), BATCH):
        pictures.images[order[start : start + BATCH]].sum()


def _memory_mb() -> dict[str, float]:
    """Return this process's memory by the kernel's names: anonymous, of files, and the peak of both."""
    lines = [line.split() for line in Path("/proc/self/status").read_text().splitlines()]
    return {line[0].rstrip(":"): int(line[1]) / 1024 for line in lines if len(line) > 1 and line[1].isdigit()}


if __name__ == "__main__":
    main()
