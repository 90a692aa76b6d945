"""Multipart forms: unusual but valid ones, and invalid ones."""

import random
from typing import Final

from scripts.attack.attempts import Attempt, Due, chance, query, request
from scripts.attack.right import boundary
from scripts.attack.world import World

MARK: Final = b"<boundary>"
FILE: Final = b"<file>"
HEAD: Final = b'Content-Disposition: form-data; name="file"; filename="a.png"'
END: Final = b"--<boundary>--\r\n"


def part(head: bytes = HEAD, content: bytes = FILE) -> bytes:
    """Build one part with the boundary before it."""
    return b"--<boundary>\r\n" + head + b"\r\n\r\n" + content + b"\r\n"


NOTE: Final = part(b'Content-Disposition: form-data; name="note"', b"x")
NAMES: Final = {
    "UTF-8": "猫.png".encode(),
    "Latin-1": "Kätzchen.png".encode("latin-1"),
    "Windows' Shift JIS": "表示.png".encode("shift_jis"),
    "quotes": b"a%22b\\\\.png",
    "2,000 letters": b"a" * 2000,
    "nothing": b"",
}
RIGHT: Final = {
    **{f"a name in {name}": part(HEAD.replace(b"a.png", content)) + END for name, content in NAMES.items()},
    "blanks behind the first boundary": part().replace(MARK, MARK + b" \t") + END,
    "a preamble": b"hello\r\n" + part() + END,
    "an epilogue": part() + END + b"good bye",
    "no line end at the end": part() + END[:-2],
    "another field before": NOTE + part() + END,
    "another field behind": part() + NOTE + END,
    "header names in capitals": part(b'CONTENT-DISPOSITION: FORM-DATA; NAME="file"; FILENAME="a"') + END,
    "a field without quotes": part(b"Content-Disposition: form-data; name=file; filename=a.png") + END,
    "headers of the client's own": part(b"X-Thing: 1\r\n" + HEAD) + END,
}
WRONG: Final = {
    "empty": b"",
    "no part": END,
    "another boundary": part().replace(MARK, b"other") + END.replace(MARK, b"other"),
    "no end": part(),
    "cut off": part()[:60],
    "no head": b"--<boundary>\r\n\r\n<file>\r\n" + END,
    "no name": part(b"Content-Disposition: form-data") + END,
    "another name": part(HEAD.replace(b'"file"', b'"files"')) + END,
    "two files": part() * 2 + END,
    "a wrong length of the part": part(HEAD + b"\r\nContent-Length: 5") + END,
    "an empty file": part(content=b"") + END,
    "a head without an end": b"--<boundary>\r\nX: " + b"a" * 100_000,
    "many headers": part(b"X: a\r\n" * 3000 + HEAD) + END,
    "many parts": NOTE * 3000 + END,
    "line ends of Unix": (part() + END).replace(b"\r\n", b"\n"),
    "a form in the form": part(
        b"Content-Type: multipart/mixed; boundary=inner", part().replace(MARK, b"inner") + b"--inner--"
    )
    + END,
    "base64": part(HEAD + b"\r\nContent-Transfer-Encoding: base64", b"iVBORw0KGgo=") + END,
    "a name without an end": part(HEAD[:-1]) + END,
    "NUL in the head": part(HEAD.replace(b"file", b"fi\0le")) + END,
    "boundaries alone": b"--<boundary>\r\n" * 5000,
}
TYPES: Final = (
    "multipart/form-data",
    "multipart/form-data; boundary=",
    'multipart/form-data; boundary=""',
    "multipart/form-data; boundary=" + "b" * 5000,
    "multipart/form-data; boundary=\xff\xfe",
    "multipart/form-data; boundary=a b",
    "multipart/form-data; charset=utf-16; boundary=x",
    "multipart/mixed; boundary=x",
    "application/x-www-form-urlencoded",
    "text/plain",
    "image/svg+xml",
    "video/mp4",
    ";;;",
    "\xff",
)


def right_form(draw: random.Random, world: World) -> Attempt:
    """Draw an unusual but valid form, which must be answered."""
    name, picture, target, mark = draw.choice(list(RIGHT)), world.picture(draw), world.target(draw), boundary(draw)
    declared = (
        f'multipart/form-data; boundary="{mark}"' if chance(draw, 0.3) else f"multipart/form-data; boundary={mark}"
    )
    content = request(
        "POST",
        query("/predict", model=target.model),
        _filled(RIGHT[name], mark, picture.content),
        [("Content-Type", declared)],
    )
    return Attempt(name, content, (Due(frozenset({200}), world.predicts(target.model, picture)),), reuses=True)


def wrong_form(draw: random.Random, world: World) -> Attempt:
    """Draw an invalid form or one without an image: a client error, or a correct answer if it can still be parsed."""
    name, picture, target, mark = draw.choice(list(WRONG)), world.picture(draw), world.target(draw), boundary(draw)
    path = draw.choice(["/predict", "/predict", "/predict/batch", "/compare"])
    check = world.predicts(target.model, picture) if path == "/predict" else None
    body, declared = _filled(WRONG[name], mark, picture.content), f"multipart/form-data; boundary={mark}"
    if chance(draw, 0.3):
        name, declared = "content type", draw.choice(TYPES)
    content = request("POST", query(path, model=target.model), body, [("Content-Type", declared)])
    return Attempt(name, content, (Due(frozenset({200, 400, 413, 415}), check),), reuses=True)


def _filled(template: bytes, mark: str, content: bytes) -> bytes:
    return template.replace(MARK, mark.encode()).replace(FILE, content)
