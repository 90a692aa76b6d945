"""The error tree: each error that may be answered has what every protocol needs."""

from collections.abc import Iterator
from http import HTTPStatus

import grpc
import pytest

from service.errors import RequestError


def answered(kind: type[RequestError] = RequestError) -> Iterator[type[RequestError]]:
    for child in kind.__subclasses__():
        yield child
        yield from answered(child)


@pytest.mark.parametrize("kind", sorted(answered(), key=str), ids=lambda kind: kind.__name__)
def test_error_has_a_status_for_http_and_one_for_grpc(kind: type[RequestError]) -> None:
    assert isinstance(kind.status, HTTPStatus)
    assert kind.grpc_code in grpc.StatusCode.__members__
    assert (kind.status == HTTPStatus.SERVICE_UNAVAILABLE) == (kind.grpc_code == "UNAVAILABLE")
    assert kind.title


def test_kinds_are_unlike_each_other() -> None:
    kinds = [kind.kind for kind in answered()]
    assert len(set(kinds)) == len(kinds)
