"""Large requests get the same answers as small ones, in whichever process they are parsed."""

import asyncio
import gc
import json
import os
import pickle
import signal
import tracemalloc
import weakref
from base64 import b64encode
from io import BytesIO
from typing import Any

import numpy as np
import pytest
from fastapi.testclient import TestClient

from service.api.large_requests import LARGE_BYTES, LENGTH, RequestReader, answer_questions
from service.errors import DeadlineError, InvalidRequestError, UnavailableError
from service.http.exchange import EagerCall
from service.inference.pipeline import Deadline
from tests.conftest import SAMPLES
from tests.reading import reading_processes
from tests.service.api.kserve.requests import GOLDEN, INFER, MODEL, assert_golden, image_input
from tests.waiting import PATIENCE_S, wait_until

PREDICT = f"/v1/models/{MODEL}:predict"
CLASSIFY = f"/v1/models/{MODEL}:classify"
IMAGES = GOLDEN.images.tolist()
FILE = {"b64": b64encode(SAMPLES[0].file.read_bytes()).decode()}


def large(document: Any) -> bytes:
    body = json.dumps(document).encode()
    return body.ljust(LARGE_BYTES + 1)


def test_pixels_and_files_are_answered(client: TestClient) -> None:
    answer = client.post(INFER, content=large({"id": "1", "inputs": [image_input(64, data=IMAGES)]})).json()
    assert answer["id"] == "1"
    assert_golden(answer["outputs"][0]["data"], 64)
    assert_golden(client.post(PREDICT, content=large({"instances": IMAGES})).json()["predictions"], 64)
    flat = [{"images": image} for image in GOLDEN.images.reshape(64, -1).tolist()]
    scores = client.post(CLASSIFY, content=large({"examples": flat})).json()["result"]
    assert np.abs(np.array([[score for _, score in row] for row in scores]) - GOLDEN.probabilities).max() < 1e-5
    encoded = {"signature_name": "encoded_images", "instances": [FILE]}
    small, padded = (client.post(PREDICT, content=body).json() for body in (json.dumps(encoded), large(encoded)))
    assert small == padded


def wait_for_end(processes: set[int]) -> None:
    wait_until(lambda: not processes & reading_processes())


@pytest.mark.parametrize(
    ("path", "document", "status"),
    [
        (INFER, {"inputs": [image_input(name="pixels")]}, 400),
        (INFER, {"inputs": [image_input(parameters={"shared_memory_region": "a"})]}, 501),
        (PREDICT, {"instances": [1]}, 400),
        (PREDICT, [], 400),
    ],
)
def test_errors_are_those_of_small_requests(client: TestClient, path: str, document: Any, status: int) -> None:
    small, padded = (client.post(path, content=body) for body in (json.dumps(document), large(document)))
    assert small.status_code == padded.status_code == status
    assert small.json() == padded.json()


def test_process_that_is_killed_is_replaced(client: TestClient) -> None:
    body = large({"inputs": [image_input()]})
    assert client.post(INFER, content=body).status_code == 200
    [process] = reading_processes()
    os.kill(process, signal.SIGKILL)
    answers = [client.post(INFER, content=body) for _ in range(2)]
    assert [answer.status_code for answer in answers] == [503, 200]
    assert answers[0].headers["retry-after"] == "1"


@pytest.mark.anyio
async def test_process_that_ends_while_idle_costs_one_answer() -> None:
    reader, before = RequestReader(), reading_processes()
    await reader.read(LARGE_BYTES, Deadline.after(PATIENCE_S), json.loads, "[1]")
    started = reading_processes() - before
    for process in started:
        os.kill(process, signal.SIGKILL)
    await asyncio.to_thread(wait_for_end, started)
    await asyncio.sleep(0.1)  # the loop notices that the pipes are closed
    with pytest.raises(UnavailableError):
        await reader.read(LARGE_BYTES, Deadline.after(PATIENCE_S), json.loads, "[2]")
    assert await reader.read(LARGE_BYTES, Deadline.after(PATIENCE_S), json.loads, "[3]") == [3]
    await reader.close()


def test_deadline_holds_while_it_is_read(client: TestClient) -> None:
    body = large({"inputs": [image_input(256, data=IMAGES * 4)]})
    response = client.post(INFER, content=body, headers={"X-Request-Timeout-Ms": "1"})
    assert (response.status_code, "no answer within 0.001 s" in response.json()["error"]) == (504, True)
    wait_for_end(reading_processes())
    assert client.post(INFER, content=large({"inputs": [image_input()]})).status_code == 200


def test_small_request_is_read_in_place_whatever_its_headers_say(client: TestClient) -> None:
    before = reading_processes()
    response = client.post(INFER, content=b"{}", headers={"Inference-Header-Content-Length": str(10 * LARGE_BYTES)})
    assert (response.status_code, reading_processes() - before) == (400, set())


@pytest.mark.anyio
async def test_request_that_is_answered_without_a_task_is_read_in_the_process() -> None:
    async def ask(timeout_s: float) -> object:
        reader = RequestReader()
        read: asyncio.Future[object] = asyncio.get_running_loop().create_future()
        question = reader.read(LARGE_BYTES, Deadline.after(timeout_s), json.loads, "[1]")
        EagerCall(question, read.set_result, lambda _: None).step()
        try:
            return await read
        finally:
            await reader.close()

    assert await ask(PATIENCE_S) == [1]
    assert isinstance(await ask(0), DeadlineError)


@pytest.mark.anyio
async def test_process_ends_where_there_is_no_more_to_read() -> None:
    reader = RequestReader(keep_s=0.05)
    before = reading_processes()
    assert await reader.read(LARGE_BYTES, Deadline.after(PATIENCE_S), json.loads, "[1]") == [1]
    started = reading_processes() - before
    assert len(started) == 1
    await asyncio.to_thread(wait_for_end, started)
    assert await reader.read(LARGE_BYTES, Deadline.after(PATIENCE_S), json.loads, "[1]") == [1]
    await reader.close()


def test_nothing_of_a_question_is_held_while_there_is_none() -> None:
    question = pickle.dumps((bytes, (5_000_000,), {}))
    held = []

    class Questions(BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            if size == LENGTH.size:
                held.append(tracemalloc.get_traced_memory()[0])
            return super().read(size)

    class Answers(BytesIO):
        def write(self, content: Any) -> int:
            return len(content)

    tracemalloc.start()
    try:
        answer_questions(Questions((LENGTH.pack(len(question)) + question) * 2), Answers())
    finally:
        tracemalloc.stop()
    assert len(held) == 3
    assert max(held) - held[0] < 1_000_000


class Body:
    """The body of a request, of which it is known if it is still there."""


def test_nothing_of_a_rejected_request_stays_in_the_process(monkeypatch: pytest.MonkeyPatch) -> None:
    def reject(_body: Body) -> None:
        raise InvalidRequestError("as every body")

    kept: list[weakref.ref[Body]] = []

    def call(_question: bytes) -> tuple[object, tuple[Body], dict[str, object]]:
        body = Body()
        kept.append(weakref.ref(body))
        return reject, (body,), {}

    monkeypatch.setattr(pickle, "loads", call)
    gc.disable()  # as in that process
    try:
        answers = BytesIO()
        answer_questions(BytesIO(LENGTH.pack(1) + b"?"), answers)
        assert answers.getvalue()
        assert kept[0]() is None
    finally:
        gc.enable()
