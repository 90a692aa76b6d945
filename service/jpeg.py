"""Counts the scans of a JPEG without decoding it, by walking its markers (ITU-T T.81, annex B).

Ends at the image's own end: what cameras append (a film, further frames) doesn't count, nor does a thumbnail within a
segment.
"""

import re
from typing import Final

MARKER: Final = re.compile(rb"\xff+[\x01-\xcf\xd8-\xfe]")
"""A marker that isn't a stuffed zero or a restart, which may both stand within a scan's data."""
START_OF_IMAGE: Final = 0xD8
END_OF_IMAGE: Final = 0xD9
START_OF_SCAN: Final = 0xDA
WITHOUT_LENGTH: Final = frozenset({0x01, START_OF_IMAGE})
LENGTH_BYTES: Final = 2


def count_scans(content: bytes, *, most_segments: int) -> int | None:
    """The scans of the first image in a file; None where it has more than `most_segments` segments."""
    scans = 0
    position = 0
    for _ in range(most_segments):
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
