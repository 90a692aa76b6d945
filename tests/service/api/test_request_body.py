"""Bodies in the content codings of RFC 9110, and forms with unusual Content-Type headers."""

import gzip
import json
import zlib

import pytest
from fastapi.testclient import TestClient

from tests.conftest import SAMPLES
from tests.service.api.kserve.requests import INFER, MODEL, image_input

BODY = json.dumps({"inputs": [image_input()]}).encode()
PREDICT = f"/v1/models/{MODEL}:predict"
MAX_BODY_BYTES = 20 * 2**20


def bare_deflate(content: bytes) -> bytes:
    stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return stream.compress(content) + stream.flush()


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(BODY)),
        ("x-gzip", gzip.compress(BODY)),
        ("GZIP", gzip.compress(BODY)),
        ("gzip", gzip.compress(BODY[:99]) + gzip.compress(b"") + gzip.compress(BODY[99:])),
        ("gzip", gzip.compress(BODY) + bytes(512)),
        ("deflate", zlib.compress(BODY)),
        ("deflate", bare_deflate(BODY)),
        ("identity", BODY),
        ("", BODY),
        ("gzip, identity", gzip.compress(BODY)),
        ("deflate, gzip", gzip.compress(zlib.compress(BODY))),
        ("gzip ,\tx-gzip", gzip.compress(gzip.compress(BODY))),
    ],
)
def test_compressed_body_is_read(client: TestClient, coding: str, body: bytes) -> None:
    response = client.post(INFER, content=body, headers={"Content-Encoding": coding})
    assert response.status_code == 200, response.text


def test_codings_on_several_lines_are_one_list(client: TestClient) -> None:
    lines = [("Content-Encoding", "deflate"), ("Content-Encoding", "gzip")]
    response = client.post(INFER, content=gzip.compress(zlib.compress(BODY)), headers=lines)
    assert response.status_code == 200, response.text


@pytest.mark.parametrize(
    ("coding", "body", "said"),
    [
        ("gzip", gzip.compress(BODY)[:-9], "truncated"),
        ("gzip", gzip.compress(BODY) + gzip.compress(BODY)[:30], "truncated"),
        ("gzip", gzip.compress(BODY) + b"behind", "can't be decompressed"),
        ("gzip", gzip.compress(BODY) + bytes(8) + b"behind", "data after its end"),
        ("deflate", zlib.compress(BODY) + b"behind", "data after its end"),
        ("gzip", BODY, "can't be decompressed"),
        ("gzip", b"", "truncated"),
    ],
)
def test_damaged_body_is_rejected(client: TestClient, coding: str, body: bytes, said: str) -> None:
    response = client.post(INFER, content=body, headers={"Content-Encoding": coding})
    assert (response.status_code, said in response.json()["error"]) == (400, True), response.text


@pytest.mark.parametrize(
    ("coding", "body"),
    [
        ("gzip", gzip.compress(bytes(MAX_BODY_BYTES + 1))),
        ("gzip", gzip.compress(bytes(MAX_BODY_BYTES)) * 3),
        ("gzip, gzip", gzip.compress(gzip.compress(bytes(2**28)))),
        ("gzip", gzip.compress(b"") * 20_000),
    ],
)
def test_bomb_is_rejected(client: TestClient, coding: str, body: bytes) -> None:
    assert client.post(INFER, content=body, headers={"Content-Encoding": coding}).status_code == 413


@pytest.mark.parametrize("coding", ["br", "zstd", "compress", "gzip, br", ", ".join(["gzip"] * 5)])
def test_coding_that_is_not_read_is_named_beside_those_that_are(client: TestClient, coding: str) -> None:
    for path, accepted in (
        (INFER, "gzip, x-gzip, deflate"),
        (PREDICT, "gzip, x-gzip, deflate"),
        ("/predict", "identity"),
    ):
        response = client.post(path, content=BODY, headers={"Content-Encoding": coding})
        assert (response.status_code, response.headers["accept-encoding"]) == (415, accepted)


@pytest.mark.parametrize(
    ("content_type", "boundary"),
    [
        ('multipart/form-data; boundary="a b:c"', "a b:c"),
        ("multipart/form-data; boundary=a:b=c/d", "a:b=c/d"),
        ("multipart/form-data;\tboundary=abc", "abc"),
        ("Multipart/Form-Data; charset=utf-8; Boundary=abc; x=y", "abc"),
    ],
)
def test_boundary_is_read_as_it_was_meant(client: TestClient, content_type: str, boundary: str) -> None:
    head = b'Content-Disposition: form-data; name="file"; filename="a.png"\r\nContent-Type: image/png\r\n\r\n'
    delimiter = f"--{boundary}".encode()
    body = b"\r\n".join([delimiter, head + SAMPLES[0].file.read_bytes(), delimiter + b"--", b""])
    response = client.post("/predict", params={"model": MODEL}, content=body, headers={"Content-Type": content_type})
    assert response.status_code == 200, response.text
