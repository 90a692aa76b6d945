import pytest

from service.api.multipart_form import file_of_form
from service.errors import InvalidRequestError, UnsupportedTypeError

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
        part(USUAL + b"\r\nContent-Transfer-Encoding: binary") + b"--XyZ--\r\n",
        part(USUAL.partition(b"\r\n")[0]) + b"--XyZ--\r\n",
        part(b'Content-Disposition: form-data; name=file; filename="file"\r\nContent-Type: image/png') + b"--XyZ--\r\n",
        part(b'Content-Disposition: form-data; name="note"') + part(USUAL) + b"--XyZ--\r\n",
        part(USUAL) + part(b'Content-Disposition: form-data; name="note"', b"later") + b"--XyZ--\r\n",
    ],
)
def test_field_is_found_however_the_form_is_written(body: bytes) -> None:
    assert file_of_form(body, BOUNDARY) == PICTURE


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
        part(USUAL) + part(USUAL) + b"--XyZ--\r\n",
        part(b'Content-Disposition: form-data; name="picture"; filename="file"\r\nContent-Type: image/png')
        + b"--XyZ--\r\n",
        part(b'Content-Disposition: attachment; name="file"\r\nContent-Type: image/png') + b"--XyZ--\r\n",
    ],
)
def test_form_without_exactly_one_such_field_is_refused(body: bytes) -> None:
    with pytest.raises(InvalidRequestError):
        file_of_form(body, BOUNDARY)


def test_other_content_in_the_field_is_refused() -> None:
    body = part(USUAL.replace(b"image/png", b"text/plain")) + b"--XyZ--\r\n"
    with pytest.raises(UnsupportedTypeError, match="text/plain"):
        file_of_form(body, BOUNDARY)


@pytest.mark.parametrize("boundary", ["", "W", "\u1234"])
def test_form_with_another_boundary_than_declared_is_refused(boundary: str) -> None:
    with pytest.raises(InvalidRequestError):
        file_of_form(part(USUAL) + b"--XyZ--\r\n", {"boundary": boundary})
