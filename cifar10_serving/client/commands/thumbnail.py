"""Thumbnails in the terminal, roughly what a model sees: the central square in few pixels.

The protocols are kitty's (https://sw.kovidgoyal.net/kitty/graphics-protocol/) and iTerm2's
(https://iterm2.com/documentation-images.html), otherwise coloured half blocks in terminals with 24-bit colour. Pillow
reads the picture; without it nothing is drawn.
"""

import base64
import os
import sys
from collections.abc import Mapping
from io import BytesIO
from typing import Any, Final

from cifar10_serving.client._images import ImageSource, encode_image
from cifar10_serving.client.commands.exit_codes import CommandLineError

CHOICES: Final = ("auto", "off", "kitty", "iterm", "blocks")
MAX_AUTO_THUMBNAILS: Final = 8
SIDE: Final = 32
"""Side in pixels, the size that CIFAR-10's models see."""
SHOWN_COLUMNS: Final = 16
SHOWN_ROWS: Final = 8
ENLARGED: Final = 4
"""Enlargement, so that terminals that smooth images still show the pixels."""
KITTY_CHUNK_BYTES: Final = 4096


class Thumbnails:
    """Draws pictures on standard output, if possible.

    Args:
        choice: one of `CHOICES`.
        images: number of images in the run.
        plain: whether a program reads the output.

    Raises:
        CommandLineError: thumbnails were requested, but Pillow is not installed.
    """

    def __init__(self, choice: str, images: int, *, plain: bool) -> None:
        wanted = choice not in {"auto", "off"}
        automatic = choice == "auto" and images <= MAX_AUTO_THUMBNAILS and not plain and sys.stdout.isatty()
        self._way = choice if wanted else terminal_way(os.environ) if automatic else None
        if self._way is not None and not _has_pillow():
            self._way = None
            if wanted:
                raise CommandLineError("thumbnails need Pillow", remedy="pip install pillow")

    def show(self, image: ImageSource) -> None:
        """Draw an answered image, if Pillow can read it here."""
        if self._way is None:
            return
        try:
            picture = _seen_by_the_model(image)
        except Exception:  # noqa: BLE001  # a broken file makes Pillow raise anything; the answer is what was asked for
            return
        print(draw(picture, self._way))


def terminal_way(environment: Mapping[str, str]) -> str | None:
    """Return the protocol for this terminal; None if it has none, or if colours are disabled."""
    terminal = environment.get("TERM", "dumb")
    if environment.get("NO_COLOR") or terminal == "dumb":
        return None
    multiplexed = "TMUX" in environment or terminal.startswith(("screen", "tmux"))
    if not multiplexed and ("KITTY_WINDOW_ID" in environment or terminal in {"xterm-kitty", "xterm-ghostty"}):
        return "kitty"
    names = {environment.get("TERM_PROGRAM"), environment.get("LC_TERMINAL")}  # the second one is passed on by ssh
    if not multiplexed and names & {"iTerm.app", "iTerm2", "WezTerm"}:
        return "iterm"
    return "blocks" if environment.get("COLORTERM") in {"truecolor", "24bit"} else None


def draw(picture: Any, way: str) -> str:
    """Return the output that shows a Pillow image of `SIDE` x `SIDE` pixels."""
    if way == "blocks":
        return _half_blocks(picture)
    stream = BytesIO()
    enlarged = ENLARGED * SIDE
    picture.resize((enlarged, enlarged), 0).save(stream, "PNG")
    encoded = base64.b64encode(stream.getvalue()).decode()
    if way == "iterm":
        size = f"width={SHOWN_COLUMNS};height={SHOWN_ROWS}"
        return f"\x1b]1337;File=inline=1;{size};preserveAspectRatio=1:{encoded}\a"
    chunks = [encoded[start : start + KITTY_CHUNK_BYTES] for start in range(0, len(encoded), KITTY_CHUNK_BYTES)]
    first = f"a=T,f=100,c={SHOWN_COLUMNS},r={SHOWN_ROWS},"
    return "".join(
        f"\x1b_G{first if number == 0 else ''}m={int(number + 1 < len(chunks))};{chunk}\x1b\\"
        for number, chunk in enumerate(chunks)
    )


def _half_blocks(picture: Any) -> str:
    """Return one character for two pixels: the upper one in its colour, the lower one as its background."""
    pixels = picture.convert("RGB").tobytes()
    rows = [[tuple(pixels[3 * (y * SIDE + x) :][:3]) for x in range(SIDE)] for y in range(SIDE)]
    return "\n".join(
        "".join(
            f"\x1b[38;2;{u[0]};{u[1]};{u[2]};48;2;{d[0]};{d[1]};{d[2]}m▀" for u, d in zip(upper, lower, strict=True)
        )
        + "\x1b[0m"
        for upper, lower in zip(rows[::2], rows[1::2], strict=True)
    )


def _seen_by_the_model(image: ImageSource) -> Any:
    from PIL import Image, ImageOps

    with Image.open(BytesIO(encode_image(image).content)) as opened:
        upright = ImageOps.exif_transpose(opened)
    if upright.mode.startswith("I"):  # 16 bits; the upper 8 are used
        upright = upright.convert("I").point([value >> 8 for value in range(2**16)], "L")
    upright = upright.convert("RGBA")
    background = Image.new("RGBA", upright.size, "white")
    return ImageOps.fit(Image.alpha_composite(background, upright).convert("RGB"), (SIDE, SIDE))


def _has_pillow() -> bool:
    try:
        import PIL.Image  # noqa: F401  # asked, not used
    except ImportError:
        return False
    return True
