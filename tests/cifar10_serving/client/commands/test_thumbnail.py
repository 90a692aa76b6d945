"""The picture protocol for each terminal, and the pictures that are sent."""

import base64
import re
from io import BytesIO

import pytest
from PIL import Image

from cifar10_serving.client.commands.thumbnail import draw, terminal_way
from tests.conftest import SAMPLES

TRUE_COLOUR = {"TERM": "xterm-256color", "COLORTERM": "truecolor"}


@pytest.mark.parametrize(
    ("environment", "way"),
    [
        ({}, None),
        ({"TERM": "xterm-256color"}, None),
        (TRUE_COLOUR, "blocks"),
        (TRUE_COLOUR | {"NO_COLOR": "1"}, None),
        (TRUE_COLOUR | {"TERM": "dumb"}, None),
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "KITTY_WINDOW_ID": "1"}, "kitty"),
        (TRUE_COLOUR | {"TERM_PROGRAM": "iTerm.app"}, "iterm"),
        (TRUE_COLOUR | {"LC_TERMINAL": "iTerm2"}, "iterm"),
        (TRUE_COLOUR | {"TERM": "tmux-256color", "LC_TERMINAL": "iTerm2"}, "blocks"),
        (TRUE_COLOUR | {"KITTY_WINDOW_ID": "1", "TMUX": "socket,1,0"}, "blocks"),
        (TRUE_COLOUR | {"TERM": "screen-256color", "TERM_PROGRAM": "iTerm.app"}, "blocks"),
    ],
)
def test_terminal_gets_what_it_can_show(environment: dict[str, str], way: str | None) -> None:
    assert terminal_way(environment) == way


@pytest.fixture
def picture() -> Image.Image:
    with Image.open(SAMPLES[3].file) as opened:
        return opened.convert("RGB")


def small(encoded: str) -> Image.Image:
    """The 32x32 pixels of a picture that was enlarged without smoothing."""
    return Image.open(BytesIO(base64.b64decode(encoded))).resize((32, 32), Image.Resampling.NEAREST)


def test_kitty_gets_the_picture_in_chunks_that_it_takes(picture: Image.Image) -> None:
    drawn = draw(picture, "kitty")
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", drawn)
    assert drawn == "".join(f"\x1b_G{keys};{chunk}\x1b\\" for keys, chunk in chunks)
    assert [keys[-3:] for keys, _ in chunks] == [*["m=1"] * (len(chunks) - 1), "m=0"]
    assert all(len(chunk) <= 4096 for _, chunk in chunks)
    assert small("".join(chunk for _, chunk in chunks)).tobytes() == picture.tobytes()


def test_iterm_gets_the_picture(picture: Image.Image) -> None:
    keys, _, encoded = draw(picture, "iterm").removeprefix("\x1b]1337;File=").removesuffix("\a").partition(":")
    assert keys.split(";")[0] == "inline=1"
    assert small(encoded).tobytes() == picture.tobytes()


def test_half_blocks_are_two_pixels_each(picture: Image.Image) -> None:
    lines = draw(picture, "blocks").splitlines()
    assert len(lines) == 16
    cells = [re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)m", line) for line in lines]
    upper = [tuple(map(int, cell[:3])) for row in cells for cell in row]
    lower = [tuple(map(int, cell[3:])) for row in cells for cell in row]
    pixels = [picture.getpixel((x, y)) for y in range(32) for x in range(32)]
    assert [
        upper[32 * (y // 2) + x] if y % 2 == 0 else lower[32 * (y // 2) + x] for y in range(32) for x in range(32)
    ] == pixels
