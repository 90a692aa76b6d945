"""AV1 (https://aomediacodec.github.io/av1-spec/): the size of a stream's frames, which may differ from AVIF's boxes.

A decoder allocates frames as large as the stream says, whatever the boxes say, and keeps those that other frames may
refer to.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from service.images.formats.image_file import damaged, too_many

MAX_UNITS: Final = 10_000
"""Limit of open bitstream units; a picture has two or three, a tiled one as many per tile."""
SEQUENCE, FRAME_HEADER, FRAME = 1, 3, 6
KEY_FRAME, SWITCH_FRAME = 0, 3
SELECTED: Final = 2
"""Value of a tool that each frame turns on or off."""
MAX_SIZE_BYTES: Final = 8
MAX_LEADING_ZEROS: Final = 32
LEVEL_WITH_TIERS: Final = 7


class _Bits:
    """Reads numbers of any length; bits after the end are zeros."""

    def __init__(self, content: bytes) -> None:
        self._bits = int.from_bytes(content)
        self._left = 8 * len(content)

    def take(self, count: int) -> int:
        self._left -= count
        value = self._bits >> self._left if self._left >= 0 else self._bits << -self._left
        return value & ((1 << count) - 1)

    def skip_variable(self) -> None:
        zeros = 0
        while zeros < MAX_LEADING_ZEROS and not self.take(1):
            zeros += 1
        self.take(zeros)


@dataclass(slots=True)
class _Sequence:
    """Parameters that the frames of a sequence share; the defaults are those of a single picture."""

    is_reduced: bool
    width: int = 0
    height: int = 0
    largest: tuple[int, int] = (0, 0)
    """Largest size that a frame can declare, if it declares one itself."""
    time_bits: int = 0
    id_bits: int = 0
    screen_content: int = SELECTED
    whole_vectors: int = SELECTED


def frame_sizes(stream: bytes) -> Iterator[tuple[int, int]]:
    """Yield the largest possible width and height of each frame of a stream.

    Raises:
        UndecodableError: a unit has no size.
        TooLargeError: it has more units than any program writes.
    """
    sequence: _Sequence | None = None
    for kind, payload in _units(stream):
        if kind == SEQUENCE:
            sequence = _read_sequence(_Bits(payload))
        elif kind in {FRAME_HEADER, FRAME} and sequence:
            size = _frame_size(sequence, _Bits(payload[:16]))
            if size:
                yield size


def _units(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield the type and the first bytes of each unit."""
    position = 0
    for _ in range(MAX_UNITS):
        if position >= len(stream):
            return
        head = stream[position]
        position += 2 if head & 4 else 1
        size = len(stream) - position
        if head & 2:
            size, shift = 0, 0
            for byte in stream[position : position + MAX_SIZE_BYTES]:
                position += 1
                size |= (byte & 0x7F) << shift
                shift += 7
                if byte < 0x80:  # noqa: PLR2004
                    break
            else:
                raise damaged("a part of its data has no size")
        yield head >> 3 & 15, stream[position : position + min(size, 1024)]
        position += size
    raise too_many("AVIF", "parts of data", MAX_UNITS)


def _read_sequence(bits: _Bits) -> _Sequence:
    bits.take(4)
    sequence = _Sequence(is_reduced=bool(bits.take(1)))
    if sequence.is_reduced:
        bits.take(5)
    else:
        _read_operating_points(sequence, bits)
    width_bits, height_bits = bits.take(4) + 1, bits.take(4) + 1
    sequence.width, sequence.height = bits.take(width_bits) + 1, bits.take(height_bits) + 1
    sequence.largest = 1 << width_bits, 1 << height_bits
    if sequence.is_reduced:
        return sequence
    if bits.take(1):
        sequence.id_bits = bits.take(4) + 2 + bits.take(3) + 1
    bits.take(7)
    if bits.take(1):  # frames are ordered
        bits.take(2)
    sequence.screen_content = SELECTED if bits.take(1) else bits.take(1)
    if sequence.screen_content:
        sequence.whole_vectors = SELECTED if bits.take(1) else bits.take(1)
    return sequence


def _read_operating_points(sequence: _Sequence, bits: _Bits) -> None:
    delay_bits = 0
    if bits.take(1):
        bits.take(64)
        is_steady = bits.take(1)
        if is_steady:
            bits.skip_variable()
        if bits.take(1):
            delay_bits = bits.take(5) + 1
            bits.take(37)
            time_bits = bits.take(5) + 1
            sequence.time_bits = 0 if is_steady else time_bits
    has_display_delay = bits.take(1)
    for _ in range(bits.take(5) + 1):
        bits.take(12)
        if bits.take(5) > LEVEL_WITH_TIERS:
            bits.take(1)
        if delay_bits and bits.take(1):
            bits.take(2 * delay_bits + 1)
        if has_display_delay and bits.take(1):
            bits.take(4)


def _frame_size(sequence: _Sequence, bits: _Bits) -> tuple[int, int] | None:
    """Return a frame's largest possible size; None if it only shows an existing frame."""
    if sequence.is_reduced:
        return sequence.width, sequence.height
    if bits.take(1):
        return None
    kind, is_shown = bits.take(2), bits.take(1)
    if is_shown:
        bits.take(sequence.time_bits)
    else:
        bits.take(1)
    if not (kind == SWITCH_FRAME or (kind == KEY_FRAME and is_shown)):
        bits.take(1)
    bits.take(1)
    screen_content = bits.take(1) if sequence.screen_content == SELECTED else sequence.screen_content
    if screen_content and sequence.whole_vectors == SELECTED:
        bits.take(1)
    bits.take(sequence.id_bits)
    has_own_size = kind == SWITCH_FRAME or bits.take(1)
    return sequence.largest if has_own_size else (sequence.width, sequence.height)
