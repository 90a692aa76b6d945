"""Items that make up a HEIC or AVIF picture: tiles in a grid, layers over each other (ISO/IEC 23008-12, 6.6).

A decoder decodes an item each time it is named, even if little of it is visible.
"""

import struct
from collections.abc import Iterator
from typing import Final

from service.image_files.image_file import damaged

MAX_DEPTH: Final = 8
"""Limit of nested pictures; those of a phone have two levels."""
NARROW, WIDE = "H", "L"
SPATIAL_EXTENT: Final = b"ispe"

Box = tuple[bytes, bytes]
"""Kind and payload."""


def decoded_pixels(properties: list[Box], associations: bytes, references: list[Box], *, wide: bool) -> int:
    """Return the most pixels that are decoded for one picture, by the sizes of its parts.

    Args:
        properties: the boxes in `ipco`.
        associations: the payload of `ipma`.
        references: the boxes in `iref`.
        wide: numbers of items have 32 bits in the references.

    Raises:
        UndecodableError: a box is cut off, or a picture is made of itself.
    """
    try:
        areas = _areas(properties, associations)
        parts: dict[int, list[int]] = {}
        for kind, payload in references:
            if kind == b"dimg":
                whole, *its_parts = _numbers(payload, WIDE if wide else NARROW)
                parts.setdefault(whole, []).extend(its_parts)
    except struct.error:
        raise damaged("the description of its items is truncated") from None
    costs: dict[int, int] = {}

    def cost(item: int, depth: int) -> int:
        if depth > MAX_DEPTH:
            raise damaged("an image in it is composed of itself")
        if item not in costs:
            costs[item] = max(areas.get(item, 0), sum(cost(part, depth + 1) for part in parts.get(item, ())))
        return costs[item]

    return max((cost(item, 0) for item in parts), default=0)


def _numbers(payload: bytes, form: str) -> Iterator[int]:
    (whole,) = struct.unpack_from(f">{form}", payload)
    (count,) = struct.unpack_from(">H", payload, struct.calcsize(form))
    yield whole
    yield from struct.unpack_from(f">{count}{form}", payload, struct.calcsize(f">{form}H"))


def _areas(properties: list[Box], associations: bytes) -> dict[int, int]:
    """Return the greatest area that each item's properties give it."""
    version, flags = associations[:1] > b"\0", associations[3:4]
    number, index = (WIDE if version else NARROW), ("H" if flags and flags[0] & 1 else "B")
    mask = 0x7FFF if index == "H" else 0x7F
    entry = struct.Struct(f">{number}B")
    position = 8
    areas: dict[int, int] = {}
    for _ in range(int.from_bytes(associations[4:8])):
        item, count = entry.unpack_from(associations, position)
        position += entry.size
        for value in struct.unpack_from(f">{count}{index}", associations, position):
            place = (value & mask) - 1
            if 0 <= place < len(properties) and properties[place][0] == SPATIAL_EXTENT:
                width, height = struct.unpack_from(">LL", properties[place][1], 4)
                areas[item] = max(areas.get(item, 0), width * height)
        position += count * struct.calcsize(index)
    return areas
