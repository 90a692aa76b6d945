"""Compare parts that the service implements itself with the library that would do the same: time, and memory kept.

    python -m scripts.compare_libraries [jpeg] [form] [large-requests]

All times are processor time, that of child processes included, which other work on the machine disturbs less than the
clock. Candidates take turns, and the best round counts.
"""

import argparse
import asyncio
import contextlib
import json
import os
import time
from collections.abc import Awaitable, Callable, Mapping
from functools import partial
from io import BytesIO
from pathlib import Path
from typing import Any, Final

import anyio.to_process
import numpy as np
import simplejpeg
from numpy.typing import NDArray
from PIL import Image

from bench.photographs import Format, enlarged
from cifar10_serving.artifacts.metadata import InputShape
from cifar10_serving.pixels import draft_side
from scripts.observing_cost import processor_s
from service.api.kserve.codec import parse_infer_request
from service.api.large_requests import RequestReader
from service.errors import RequestError
from service.http.uploads import file_of_form
from service.images.encoded import EncodedImage
from service.images.fast_decode import decode_unchanged
from service.inference.pipeline import Deadline

ROUNDS: Final = 7
ROUND_S: Final = 0.2
MAX_PIXELS: Final = 10**8
SHAPES: Final = ((32, 32, 3), (224, 224, 3))
"""Of the pixels that are made of each file."""
SIZES: Final = ((32, 32), (128, 128), (640, 480), (4000, 3000))
"""Width and height of the JPEGs that are timed."""
COMPARED_SIZES: Final = ((32, 32), (33, 47), (1, 1), (257, 511), (640, 480), (1030, 513))
SCALES: Final = (8, 4, 2)
BOUNDARY: Final = "a1b2c3d4"
IMAGES_FOLDER: Final = Path(__file__).parent.parent / "tests/images"
PHOTOGRAPHS: Final = (Format(640, 480, 48_000), Format(1600, 1200, 300_000))
IMAGES: Final = 500
"""Images of the large request, in JSON."""
KEEP_S: Final = 2.0


def main() -> None:
    """Print a line for each candidate."""
    parts = {"jpeg": compare_jpeg, "form": compare_forms, "large-requests": compare_large_requests}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", metavar="PART", help=", ".join(parts))
    for part in parser.parse_args().parts or parts:
        if part not in parts:
            parser.error(f"there is no part '{part}', only {', '.join(parts)}")
        parts[part]()


def compare_jpeg() -> None:
    """Print how often simplejpeg's pixels are Pillow's, and the time of each at each size."""
    print("JPEG: simplejpeg's pixels that equal Pillow's, scaled as our decoding has Pillow scale")
    for subsampling in ("4:4:4", "4:2:2", "4:2:0"):
        _compare_pixels("RGB", {"subsampling": subsampling})
    _compare_pixels("L", {})
    _compare_pixels("CMYK", {})
    for width, height in SIZES:
        content = _jpeg(_picture(width, height), quality=85)
        for shape in SHAPES:
            if min(width, height) >= max(shape):
                _time_jpeg(content, f"{width}x{height}", shape)
    pictures = [np.asarray(Image.open(file).convert("RGB")) for file in sorted(IMAGES_FOLDER.glob("*.png"))]
    for form in PHOTOGRAPHS:
        files = [upload.content for upload in enlarged(pictures, form)]
        for side in (32, 96, 224):
            _print_difference(files, (side, side, 3), f"{form.width}x{form.height}")


def compare_forms() -> None:
    """Print the time to find the file in a form of one field: cut out, and by the library."""
    options = {"boundary": BOUNDARY}
    content = _jpeg(_picture(32, 32), quality=85)
    cut, parsed = (
        b'--%b\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\n%b\r\n%b\r\n--%b--\r\n'
        % (BOUNDARY.encode(), kind, content, BOUNDARY.encode())
        for kind in (b"Content-Type: image/jpeg\r\n", b"")  # without a type, the form is left to the library
    )
    candidates: dict[str, Callable[[], object]] = {
        "the library multipart": lambda: file_of_form(parsed, options),
        "cut out (ours)": lambda: file_of_form(cut, options),
    }
    _print_times(f"multipart form of {len(cut):,} bytes", _best_of(candidates))


def compare_large_requests() -> None:
    """Print the time to read a large request in another process, and what that process holds afterwards."""
    asyncio.run(_compare_large_requests())


async def _compare_large_requests() -> None:
    pixels = np.arange(IMAGES * 3072, dtype=np.uint8).tolist()
    document = {"name": "images", "datatype": "UINT8", "shape": [IMAGES, 32, 32, 3], "data": pixels}
    read, rejected = (
        json.dumps({"inputs": [document | {"name": name}]}).encode() for name in ("images", "not an input")
    )
    print(f"V2 request of {len(read) / 1e6:.1f} MB of JSON, read in another process")
    reader = RequestReader(keep_s=KEEP_S)
    parse = partial(parse_infer_request, max_rows=IMAGES)

    async def ours(body: bytes) -> object:
        return await reader.read(len(body), Deadline.after(60), parse, body, None)

    async def by_anyio(body: bytes) -> object:
        return await anyio.to_process.run_sync(parse, body, None, cancellable=True)

    for name, call in (("anyio.to_process", by_anyio), ("ours", ours)):
        before = _children()
        await call(read)  # starts the process
        (child,) = _children() - before
        times_s = [await _timed(call, read, child) for _ in range(ROUNDS)]
        rejected_s = [await _timed(call, rejected, child) for _ in range(ROUNDS)]
        held_mib = _resident_mib(child)
        await asyncio.sleep(2 * KEEP_S)
        left = f"still {_resident_mib(child):.0f} MiB" if child in _children() else "it has ended"
        print(
            f"  {name:<28}{min(times_s) * 1e3:8.0f} ms, rejected {min(rejected_s) * 1e3:.0f} ms; then it holds "
            f"{held_mib:.0f} MiB, {2 * KEEP_S:g} s later {left}"
        )
    await reader.close()


async def _timed(call: Callable[[bytes], Awaitable[object]], body: bytes, child: int) -> float:
    """Return the processor time of a request, here and in the child process."""
    start_s = time.process_time() + processor_s(child)
    with contextlib.suppress(RequestError):
        await call(body)
    return time.process_time() + processor_s(child) - start_s


def _children() -> set[int]:
    return {int(child) for child in Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()}


def _resident_mib(process: int) -> float:
    pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def _time_jpeg(content: bytes, size: str, shape: InputShape) -> None:
    square = partial(_central_square, shape=shape)
    side = draft_side(shape)
    candidates: dict[str, Callable[[], object]] = {
        "Pillow at full size": lambda: square(_by_pillow(content)),
        "Pillow": lambda: square(_by_pillow(content, side)),
        "simplejpeg": lambda: square(Image.fromarray(_by_simplejpeg(content, "RGB", side))),
        "service.images.encoded": lambda: EncodedImage(content, shape, max_pixels=MAX_PIXELS).decode(),
    }
    if decode_unchanged(content, shape) is not None:
        candidates["Pillow's decoder alone"] = lambda: _unchanged_by_pillow(content)
        candidates["service.images.fast_decode"] = lambda: decode_unchanged(content, shape)
    _print_times(f"JPEG of {size}, to {shape[0]}x{shape[1]} pixels", _best_of(candidates))


def _print_difference(files: list[bytes], shape: InputShape, size: str) -> None:
    """Print how much the pixels of reduced decoding differ from those of decoding at full size."""
    differences = []
    for content in files:
        full, reduced = (
            np.asarray(_central_square(_by_pillow(content, side), shape), np.int16)
            for side in (MAX_PIXELS, draft_side(shape))
        )
        differences.append(np.abs(full - reduced))
    values = np.concatenate([difference.ravel() for difference in differences])
    print(
        f"{len(files)} photographs of {size}, to {shape[0]}x{shape[1]} pixels: reduced decoding differs by "
        f"{values.mean():.2f} of 255, at most {values.max()}, 99 % by at most {np.percentile(values, 99):.0f}"
    )


def _compare_pixels(mode: str, options: Mapping[str, Any]) -> None:
    equal = count = 0
    for width, height in COMPARED_SIZES:
        for quality, progressive in ((30, False), (75, True), (95, False), (95, True)):
            picture = _picture(width, height).convert(mode)
            content = _jpeg(picture, quality=quality, progressive=progressive, **options)
            expected = np.asarray(_by_pillow(content))
            found = _by_simplejpeg(content, {"L": "GRAY"}.get(mode, mode)).reshape(expected.shape)
            equal += np.array_equal(found, expected)
            count += 1
    print(f"  {mode} {options.get('subsampling', ''):<8} {equal} of {count}")


def _by_pillow(content: bytes, side: int = MAX_PIXELS) -> Image.Image:
    """Decode a JPEG, at a fraction of its size as long as both sides keep `side` pixels."""
    image = Image.open(BytesIO(content), formats=("JPEG",))
    image.draft(None, (side, side))
    image.load()
    return image


def _central_square(image: Image.Image, shape: InputShape) -> Image.Image:
    side = min(image.size)
    left, top = (image.width - side) // 2, (image.height - side) // 2
    return image.resize((shape[1], shape[0]), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))


def _by_simplejpeg(content: bytes, kind: str, side: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Return the pixels at the scale that Pillow's `draft` chooses."""
    height, width, _, _ = simplejpeg.decode_jpeg_header(content)
    scale = next((scale for scale in SCALES if min(width, height) // side >= scale), 1)
    smallest = {"min_height": -(-height // scale), "min_width": -(-width // scale)}
    return np.asarray(simplejpeg.decode_jpeg(content, kind, **smallest))


def _unchanged_by_pillow(content: bytes) -> NDArray[np.uint8]:
    image = Image.frombytes("RGB", (32, 32), content, "jpeg", "RGB", "")
    return np.frombuffer(image.tobytes(), np.uint8).reshape(32, 32, 3)


def _picture(width: int, height: int) -> Image.Image:
    """Return smooth colours under noise, which compress about as a photo does."""
    random = np.random.default_rng(1)
    coarse = random.integers(0, 256, (max(2, height // 16), max(2, width // 16), 3), dtype=np.uint8)
    smooth = np.asarray(Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC), np.int16)
    return Image.fromarray((smooth + random.integers(-25, 26, smooth.shape)).clip(0, 255).astype(np.uint8))


def _jpeg(picture: Image.Image, **options: Any) -> bytes:
    stream = BytesIO()
    picture.save(stream, "JPEG", **options)
    return stream.getvalue()


def _best_of(candidates: Mapping[str, Callable[[], object]]) -> dict[str, float]:
    """Return the least processor time of a call of each, in seconds; they take turns."""
    calls = {name: _calls_per_round(call) for name, call in candidates.items()}
    best_s = dict.fromkeys(candidates, float("inf"))
    for _ in range(ROUNDS):
        for name, call in candidates.items():
            start_s = time.process_time()
            for _ in range(calls[name]):
                call()
            best_s[name] = min(best_s[name], (time.process_time() - start_s) / calls[name])
    return best_s


def _calls_per_round(call: Callable[[], object]) -> int:
    start_s = time.process_time()
    call()
    return max(1, int(ROUND_S / max(1e-6, time.process_time() - start_s)))


def _print_times(title: str, times_s: Mapping[str, float]) -> None:
    print(title)
    for name, seconds in times_s.items():
        print(f"  {name:<28}{seconds * 1e6:12,.1f} µs")


if __name__ == "__main__":
    main()
