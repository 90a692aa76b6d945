"""The error tree: every kind of the service has a class, and every exception of httpx becomes one of our errors."""

import pickle
from typing import Any

import httpx
import pytest

from cifar10_serving import client
from cifar10_serving.client import ClientError, GatewayError, ProblemError, TransportError, UnexpectedAnswerError
from cifar10_serving.client._answers import error_of_httpx
from cifar10_serving.client._errors import KIND_PREFIX, problem_error
from cifar10_serving.schemas import InvalidParameter, Problem
from service.errors import RequestError
from service.http import errors as problems


def subclasses(root: type[Any]) -> list[type[Any]]:
    return [found for child in root.__subclasses__() for found in (child, *subclasses(child))]


def document(kind: str, status: int = 400, **more: object) -> Problem:
    fields = {"type": KIND_PREFIX + kind, "title": "title", "status": status, "detail": "it was wrong", **more}
    return Problem.model_validate(fields)


def test_kind_prefix_is_the_services() -> None:
    assert problems.KIND_PREFIX == KIND_PREFIX


@pytest.mark.parametrize("error", subclasses(RequestError), ids=lambda error: error.__name__)
def test_each_error_of_the_service_has_its_class(error: type[RequestError]) -> None:
    available = ["sequential"] if error.kind == "not-found" else None
    mirrored = problem_error(document(error.kind, error.status, available=available), retry_after_s=2)
    assert type(mirrored) is getattr(client, error.__name__)
    assert mirrored.kind == error.kind
    assert mirrored.status == error.status
    assert mirrored.retry_after_s == 2


def test_each_class_of_a_problem_names_its_kind_once() -> None:
    kinds = [error.kind for error in ProblemError.__subclasses__()]
    assert len(set(kinds)) == len(kinds)
    assert "" not in kinds


def test_problem_of_a_kind_that_a_later_service_invents_is_a_problem_still() -> None:
    error = problem_error(document("too-early", 425, expected="patience", remedy="wait"))
    assert type(error) is ProblemError
    assert str(error) == "it was wrong. Expected: patience. What to do: wait."


def test_unknown_route_is_told_from_an_unknown_model() -> None:
    model = problem_error(document("not-found", 404, available=["vgg16"]))
    assert isinstance(model, client.UnknownModelError)
    assert model.available == ["vgg16"]
    assert isinstance(problem_error(document("not-found", 404)), client.UnknownRouteError)


def test_invalid_parameters_are_told_one_by_one() -> None:
    wrong = InvalidParameter(name="top_k", value="11", expected="at most 10")
    error = problem_error(document("invalid-parameter", 422, invalid_parameters=[wrong]))
    assert isinstance(error, client.InvalidParameterError)
    assert error.invalid == [wrong]


@pytest.mark.parametrize("error", subclasses(httpx.HTTPError) + subclasses(httpx.StreamError), ids=lambda e: e.__name__)
def test_each_exception_of_httpx_becomes_an_error_of_the_client(error: type[Exception]) -> None:
    raised = error.__new__(error)
    raised.args = ("it broke",)
    mapped = error_of_httpx(raised, "GET http://x/models")
    assert isinstance(mapped, ClientError)
    assert "GET http://x/models" in str(mapped)
    if issubclass(error, httpx.TimeoutException | httpx.NetworkError):
        assert isinstance(mapped, TransportError)


@pytest.mark.parametrize("error", [httpx.InvalidURL("no"), httpx.CookieConflict("twice")])
def test_what_httpx_keeps_outside_of_its_trees_becomes_one_too(error: Exception) -> None:
    assert isinstance(error_of_httpx(error, "GET http://x/"), client.AddressError | UnexpectedAnswerError)


def test_errors_survive_pickling_so_that_worker_processes_can_raise_them() -> None:
    for error in (
        problem_error(document("unavailable", 503), retry_after_s=3, request_id="a1"),
        GatewayError("a proxy says no", status=502, retry_after_s=1.5, remedy="look"),
        client.UnreachableError("nobody answers", remedy="start it"),
    ):
        again = pickle.loads(pickle.dumps(error))  # noqa: S301  # our own bytes
        assert type(again) is type(error)
        assert str(again) == str(error)
        for name in ("retry_after_s", "request_id", "status"):
            assert getattr(again, name, None) == getattr(error, name, None)
