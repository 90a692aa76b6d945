"""JPEG (ITU-T T.81, annex B): the frame and its scans, without any metadata.

The file ends at the image's own end: data that cameras append (a video, more frames) doesn't count, and neither does a
thumbnail in a segment.
"""

import re
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from cifar10_serving.pixels import EXIF_HEADER, UPRIGHT, orientation
from service.errors import TooLargeError, UndecodableError
from service.images.formats.image_file import (
    ImageFile,
    damaged,
    starts_with,
    too_many,
)

SIGNATURE: Final = b"\xff\xd8\xff"
MARKER: Final = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")
"""A marker other than a stuffed zero or a restart, which occur within a scan's data. Fill bytes before a marker are not
part of the pattern: a pattern with them would backtrack through all of them, from each of them."""
START_OF_IMAGE: Final = 0xD8
END_OF_IMAGE: Final = 0xD9
START_OF_SCAN: Final = 0xDA
TABLES: Final = frozenset({0xC4, 0xCC, 0xDB, 0xDC, 0xDD})
"""Markers of Huffman, arithmetic and quantization tables, of the number of lines, and of the restart interval."""
FRAMES: Final = frozenset({0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF})
HIERARCHICAL: Final = frozenset({0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF})
BITS: Final = 8
PROGRESSIVE: Final = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
APP0, APP1, APP14 = 0xE0, 0xE1, 0xEE
JFIF: Final = b"JFIF\0"
ADOBE: Final = b"Adobe"
DECODED_MARKER_BYTES: Final = {APP0: 14, APP14: 12}
"""libjpeg ignores shorter ones."""
XMP: Final = b"http://ns.adobe.com/xap/1.0/\0"
RESTARTS: Final = (0xD0, 0xD7)
"""First and last marker that only resynchronizes the decoder."""
WITHOUT_LENGTH: Final = frozenset({0x01, START_OF_IMAGE})
END: Final = bytes([0xFF, END_OF_IMAGE])
ENDINGS: Final = (END, b"\x55\x6d\xb6\x5b" * 256 + END)
"""Nothing, and noise: if pixels are missing, the results differ. The noise never has two zero bits in a row, which end
a block of chroma as nothing does."""
LENGTH_BYTES: Final = 2
FRAME_HEADER_BYTES: Final = 6

MAX_SCANS: Final = 32
"""A progressive JPEG has about ten scans. Each costs a pass over the whole image and may have a few bytes, so a small
file with thousands of them could keep a thread busy for minutes."""
MAX_SEGMENTS: Final = 10_000
MAX_FILL_BYTES: Final = 4096
FILL: Final = b"\xff" * MAX_FILL_BYTES
SMALL_BYTES: Final = MAX_SEGMENTS
"""Such a file can't have more than `MAX_SEGMENTS`."""
SCAN_MARKER: Final = b"\xff\xda"
PIXEL_BYTES: Final = {1: 1, 3: 4}
SMALL_PIXELS: Final = 128 * 128
"""Size up to which `service.images.encoded` uses simplejpeg, and Pillow copies the pixels."""
SMALL_PIXEL_BYTES: Final = 3 + 4
COEFFICIENT_BYTES: Final = 2
SCALES: Final = (8, 4, 2, 1)


@dataclass(slots=True)
class _Head:
    """The segments before the first scan."""

    parts: list[bytes] = field(default_factory=list)
    decoded_markers: dict[int, bytes] = field(default_factory=dict)
    frame: tuple[int, bytes] | None = None
    exif: bytes | memoryview = b""
    xmp: bytes | memoryview = b""
    scan: int = 0

    def take(self, marker: int, segment: bytes, payload: memoryview) -> None:
        if marker in FRAMES:
            self.frame = marker, bytes(payload)
            self.parts.append(segment)
        elif marker in TABLES:
            self.parts.append(segment)
        elif marker in DECODED_MARKER_BYTES:
            name = JFIF if marker == APP0 else ADOBE
            if len(payload) >= DECODED_MARKER_BYTES[marker] and starts_with(payload, name):
                self.decoded_markers[marker] = segment
        elif marker == APP1:
            if starts_with(payload, EXIF_HEADER):
                self.exif = self.exif or payload
            elif starts_with(payload, XMP):
                self.xmp = payload


def read_jpeg(content: bytes, *, draft_side: int) -> ImageFile:
    """Return the image in a JPEG.

    Args:
        draft_side: it is decoded at 1/2 to 1/8 size as long as both sides keep this many pixels.

    Raises:
        UndecodableError: it has no frame or no scan, or is of a rare kind.
        TooLargeError: it has more segments or scans than any program writes.
    """
    head = _read_head(content)
    if head.frame is None or len(head.frame[1]) < FRAME_HEADER_BYTES:
        raise damaged("it has no frame")
    if head.frame[0] in HIERARCHICAL or head.frame[1][0] != BITS:
        raise UndecodableError(
            f"a JPEG with {head.frame[1][0]} bits per channel, or with several sizes of a picture, is not supported",
            expected=f"{BITS} bits and one picture, as all cameras write",
            remedy="save it as a PNG or a baseline JPEG",
        )
    scans = memoryview(content)[head.scan :]
    essential = b"".join([SIGNATURE[:2], *head.decoded_markers.values(), *head.parts, scans])
    has_end = _check_scans(essential, len(essential) - len(scans))
    marker, frame = head.frame
    height, width, components = int.from_bytes(frame[1:3]), int.from_bytes(frame[3:5]), frame[5]
    coefficient_bytes = _coefficient_bytes(marker, frame, content[head.scan + 4 : head.scan + 5], width * height)
    # If an image has several scans, a missing one leaves no trace.
    lacks_end = not coefficient_bytes and not has_end
    return ImageFile(
        "JPEG",
        essential.rstrip(END[:1]) if lacks_end else essential,
        width,
        height,
        decode_bytes=2 * len(essential) + _decoded_bytes(width, height, components, draft_side) + coefficient_bytes,
        orientation=orientation(head.exif, head.xmp) if head.exif or head.xmp else UPRIGHT,
        endings=ENDINGS if lacks_end else (b"",),
    )


def _read_head(content: bytes) -> _Head:
    head, view = _Head(), memoryview(content)
    position = len(SIGNATURE) - 1
    for _ in range(MAX_SEGMENTS):
        match = MARKER.search(content, position)
        if match is None or content[match.end() - 1] == END_OF_IMAGE:
            raise damaged("it has no scan")
        start, position = match.span()
        marker = content[position - 1]
        if marker in WITHOUT_LENGTH:
            continue
        if marker == START_OF_SCAN:
            head.scan = start
            return head
        end = position + max(LENGTH_BYTES, int.from_bytes(content[position : position + LENGTH_BYTES]))
        head.take(marker, content[start:end], view[position + LENGTH_BYTES : end])
        position = end
    raise too_many("JPEG", "segments", MAX_SEGMENTS)


def _decoded_bytes(width: int, height: int, components: int, draft_side: int) -> int:
    if width * height <= SMALL_PIXELS:
        return width * height * max(SMALL_PIXEL_BYTES, PIXEL_BYTES.get(components, 8))
    scale = next((scale for scale in SCALES if min(width, height) // draft_side >= scale), 1)
    return -(-width // scale) * -(-height // scale) * PIXEL_BYTES.get(components, 8)


def _coefficient_bytes(marker: int, frame: bytes, scan_components: bytes, pixels: int) -> int:
    """Return the memory that libjpeg needs for an image with several scans: all coefficients, at full size."""
    if marker not in PROGRESSIVE and scan_components == frame[5:6]:
        return 0
    factors = [(code >> 4) * (code & 15) for code in frame[7::3]]
    largest = max((code >> 4 for code in frame[7::3]), default=1) * max((code & 15 for code in frame[7::3]), default=1)
    return COEFFICIENT_BYTES * pixels * sum(factors) // max(1, largest)


def _check_scans(content: bytes, start: int) -> bool:
    """Check the numbers of scans and segments; return whether an end of image follows `start`, the first scan.

    NumPy looks for the markers, as `bytes.count` and `re` take four times as long for a photo. For a small file it is
    the other way round.

    Raises:
        TooLargeError: there are more than any program writes.
    """
    if len(content) <= SMALL_BYTES and content.count(SCAN_MARKER) <= MAX_SCANS and FILL not in content:
        return content.find(END, start) >= 0
    values = np.frombuffer(content, np.uint8)
    places = np.flatnonzero(values[:-1] == FILL[0])
    kinds = values[places + 1]
    if np.count_nonzero(kinds == FILL[0]) >= MAX_FILL_BYTES - 1 and FILL in content:
        raise too_many("JPEG", "bytes between two markers", MAX_FILL_BYTES)
    has_end = bool(np.any((kinds == END_OF_IMAGE) & (places >= start)))
    segments = np.count_nonzero(kinds) - np.count_nonzero((kinds >= RESTARTS[0]) & (kinds <= RESTARTS[1]))
    if segments <= MAX_SEGMENTS and np.count_nonzero(kinds == START_OF_SCAN) <= MAX_SCANS:
        return has_end  # within the limits in any case
    scans = count_scans(content, start, max_segments=MAX_SEGMENTS)
    if scans is None:
        raise too_many("JPEG", "segments", MAX_SEGMENTS)
    if scans > MAX_SCANS:
        raise TooLargeError(
            f"the JPEG has {scans:,} scans",
            expected=f"at most {MAX_SCANS} scans",
            remedy="save it again as a JPEG or PNG",
        )
    return has_end


def count_scans(content: bytes, position: int = 0, *, max_segments: int) -> int | None:
    """Count the scans of the first image from a position; return None for more than `max_segments` segments."""
    scans = 0
    for _ in range(max_segments):
        match = MARKER.search(content, position)
        if match is None:
            return scans
        position = match.end()
        marker = content[position - 1]
        if marker == END_OF_IMAGE:
            return scans
        if marker in WITHOUT_LENGTH:
            continue
        scans += marker == START_OF_SCAN
        position += max(LENGTH_BYTES, int.from_bytes(content[position : position + LENGTH_BYTES]))
    return None
