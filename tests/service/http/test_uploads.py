from base64 import b64encode, encodebytes
from binascii import b2a_qp

import pytest

from service.errors import InvalidRequestError, UnsupportedTypeError
from service.http.uploads import file_of_form, files_of_form

BOUNDARY = {"boundary": "XyZ"}
PICTURE = bytes(range(256)) * 3
USUAL = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png'


def part(header: bytes, content: bytes = PICTURE) -> bytes:
    return b"--XyZ\r\n" + header + b"\r\n\r\n" + content + b"\r\n"


@pytest.mark.parametrize(
    "body",
    [
        part(USUAL) + b"--XyZ--\r\n",
        part(USUAL) + b"--XyZ--",
        part(USUAL.replace(b"Content-Type: image/png", b"content-type:image/jpeg")) + b"--XyZ--\r\n",
        part(USUAL.replace(b"image/png", b"application/octet-stream")) + b"--XyZ--\r\n",
        part(b"\r\n".join(reversed(USUAL.split(b"\r\n")))) + b"--XyZ--\r\n",
        part(USUAL + b"\r\nContent-Transfer-Encoding: binary") + b"--XyZ--\r\n",
        part(USUAL.partition(b"\r\n")[0]) + b"--XyZ--\r\n",
        part(b'Content-Disposition: form-data; name=file; filename="file"\r\nContent-Type: image/png') + b"--XyZ--\r\n",
        part(b'Content-Disposition: form-data; name="note"') + part(USUAL) + b"--XyZ--\r\n",
        part(USUAL) + part(b'Content-Disposition: form-data; name="note"', b"later") + b"--XyZ--\r\n",
        part(USUAL.replace(b"a.png", b"caf\xe9.png")) + b"--XyZ--\r\n",
        part(USUAL.replace(b"a.png", "猫.png".encode("shift-jis"))) + b"--XyZ--\r\n",
        part(USUAL.replace(b"a.png", bytes(range(128, 256)))) + b"--XyZ--\r\n",
        part(USUAL).replace(b"--XyZ\r\n", b"--XyZ \t \r\n") + b"--XyZ--\r\n",
        part(USUAL) + b"--XyZ-- \t\r\n",
        part(b'Content-Disposition: form-data; name="note"').replace(b"--XyZ\r\n", b"--XyZ \r\n")
        + part(USUAL).replace(b"--XyZ\r\n", b"--XyZ\t\r\n")
        + b"--XyZ--\r\n",
        b"This text says --XyZ once.\r\n" + part(USUAL) + b"--XyZ--\r\n",
        part(USUAL) + b"--XyZ--\r\nThis is after the end.",
        part(USUAL.replace(b"; name", b";\r\n name")) + b"--XyZ--\r\n",
        part(USUAL.replace(b"Content", b"CONTENT")) + b"--XyZ--\r\n",
        part(USUAL.replace(b"image/png", b" IMAGE/PNG ; a=b")) + b"--XyZ--\r\n",
        part(USUAL + b"".join(b"\r\nX-%d: 1" % number for number in range(12))) + b"--XyZ--\r\n",
        part(USUAL + b"\r\nContent-Transfer-Encoding: base64", b64encode(PICTURE)) + b"--XyZ--\r\n",
        part(USUAL + b"\r\nContent-Transfer-Encoding: Base64", encodebytes(PICTURE)) + b"--XyZ--\r\n",
        part(USUAL + b"\r\nContent-Transfer-Encoding: quoted-printable", b2a_qp(PICTURE, istext=False))
        + b"--XyZ--\r\n",
    ],
)
def test_field_is_found_however_the_form_is_written(body: bytes) -> None:
    assert file_of_form(body, BOUNDARY) == PICTURE


@pytest.mark.parametrize(
    ("parameter", "filename"),
    [
        (b'filename="cat.png"', "cat.png"),
        ('filename="猫.png"'.encode(), "猫.png"),
        (b'filename="caf\xe9.png"', "café.png"),
        (b"filename=cat.png", "cat.png"),
        (b"filename=\"a;b, 'c'.png\"", "a;b, 'c'.png"),
        (b'filename="a%22b.png"', 'a"b.png'),
        (b'filename="a\\"b.png"', 'a"b.png'),
        (b'filename="C:\\pictures\\cat.png"', "cat.png"),
        (b"filename*=UTF-8''%E7%8C%AB.png", "猫.png"),
        (b"filename=\"cat.png\"; filename*=utf-8'en'%E7%8C%AB.png", "猫.png"),
        (b"filename*=iso-8859-1''caf%E9.png", "café.png"),
        (b"filename*=no-such''cat.png", "cat.png"),
        (b'filename=""', ""),
    ],
)
def test_file_name_is_read_as_it_was_meant(parameter: bytes, filename: str) -> None:
    body = part(b'Content-Disposition: form-data; name="files"; ' + parameter) + b"--XyZ--\r\n"
    ((field),) = files_of_form(body, BOUNDARY, max_files=1)
    assert (field.filename, field.content) == (filename, PICTURE)


def test_what_looks_like_a_boundary_within_the_file_is_part_of_it() -> None:
    content = b"\r\n--XyW\r\n--Xy--XyZ\r\n\r\n"
    assert file_of_form(part(USUAL, content) + b"--XyZ--\r\n", BOUNDARY) == content


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--XyZ--\r\n",
        part(USUAL),
        part(USUAL) + b"--XyZ",
        part(USUAL).replace(b"--XyZ\r\n", b"--XyZ x\r\n") + b"--XyZ--\r\n",
        part(USUAL + b"\r\nContent-Transfer-Encoding: base64", b"a") + b"--XyZ--\r\n",
        part(USUAL) + part(USUAL) + b"--XyZ--\r\n",
        part(b'Content-Disposition: form-data; name="picture"; filename="file"\r\nContent-Type: image/png')
        + b"--XyZ--\r\n",
        part(b'Content-Disposition: attachment; name="file"\r\nContent-Type: image/png') + b"--XyZ--\r\n",
    ],
)
def test_form_without_exactly_one_such_field_is_rejected(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        file_of_form(body, BOUNDARY)


def test_other_content_in_the_field_is_rejected() -> None:
    body = part(USUAL.replace(b"image/png", b"text/plain")) + b"--XyZ--\r\n"
    with pytest.raises(UnsupportedTypeError, match="text/plain"):
        file_of_form(body, BOUNDARY)


@pytest.mark.parametrize("boundary", ["", "W", "\u1234"])
def test_form_with_another_boundary_than_declared_is_rejected(boundary: str) -> None:
    with pytest.raises(InvalidRequestError):
        file_of_form(part(USUAL) + b"--XyZ--\r\n", {"boundary": boundary})
