"""GIF (https://www.w3.org/Graphics/GIF/spec-gif89a.txt): the screen, its palette and the first frame."""

import struct
from typing import Final

from service.images.formats.image_file import ImageFile, damaged, too_many

SIGNATURES: Final = (b"GIF87a", b"GIF89a")
SCREEN_BYTES: Final = 13
FRAME_BYTES: Final = 10
IMAGE: Final = b","
EXTENSION: Final = b"!"
GRAPHIC_CONTROL: Final = b"\xf9\x04"
IS_TRANSPARENT: Final = 1
HAS_PALETTE: Final = 0x80
PIXEL_BYTES: Final = 9
"""A palette index, the colour, and the colour times its alpha."""
MAX_EXTENSIONS: Final = 10_000
MAX_BLOCKS: Final = 250_000
"""A file of 20 MB has 80,000 blocks of 255 bytes, the size that every program writes."""


def read_gif(content: bytes) -> ImageFile:
    """Return the first image in a GIF.

    Raises:
        UndecodableError: it contains no image.
        TooLargeError: there are more blocks before or in the first image than any program writes.
    """
    screen_end = SCREEN_BYTES + _palette_bytes(content[10:11])
    control = b""
    position, blocks = screen_end, 0
    for _ in range(MAX_EXTENSIONS):
        kind = content[position : position + 1]
        if kind == IMAGE:
            break
        if kind in {b"", b";"}:
            raise damaged("it contains no image")
        if kind == EXTENSION:
            end, blocks = _skip_blocks(content, position + 2, blocks)
            if content[position + 1 : position + 3] == GRAPHIC_CONTROL:
                latest = content[position : position + 8]
                # A control block without a transparent colour keeps the one named before.
                control = latest if latest[3] & IS_TRANSPARENT or not control else control
            position = end
        else:
            position += 1  # Pillow skips bytes between blocks
    else:
        raise too_many("GIF", "extensions before the image", MAX_EXTENSIONS)
    frame = content[position : position + FRAME_BYTES]
    if len(frame) < FRAME_BYTES:
        raise damaged("it contains no image")
    data = position + FRAME_BYTES + _palette_bytes(frame[9:10])
    end, _ = _skip_blocks(content, data + 1, blocks)
    screen_width, screen_height = struct.unpack_from("<HH", content, 6)
    left, top, frame_width, frame_height = struct.unpack_from("<HHHH", frame, 1)
    width, height = max(screen_width, left + frame_width), max(screen_height, top + frame_height)
    essential = b"".join([content[:screen_end], control, content[position:end], b";"])
    return ImageFile("GIF", essential, width, height, decode_bytes=2 * len(essential) + PIXEL_BYTES * width * height)


def _palette_bytes(flags: bytes) -> int:
    return 3 << ((flags[0] & 7) + 1) if flags and flags[0] & HAS_PALETTE else 0


def _skip_blocks(content: bytes, position: int, blocks: int) -> tuple[int, int]:
    """Return the end of a chain of blocks (or of the file), and the number of blocks so far."""
    while position < len(content):
        size = content[position]
        position += 1 + size
        blocks += 1
        if size == 0:
            return position, blocks
        if blocks > MAX_BLOCKS:
            raise too_many("GIF", "blocks", MAX_BLOCKS)
    return len(content), blocks
