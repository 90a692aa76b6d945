import socket
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from service.errors import SettingsError
from service.process.serve import listen
from tests.e2e.server import free_port


@pytest.fixture
def opened() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


def answers(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError:
        return False
    return True


@pytest.mark.parametrize(
    ("host", "reached"),
    [
        ("127.0.0.1", {"127.0.0.1"}),
        ("0.0.0.0", {"127.0.0.1"}),  # noqa: S104
        ("::1", {"::1"}),
        ("::", {"127.0.0.1", "::1"}),
    ],
)
def test_host_is_reached_by_its_families(opened: ExitStack, host: str, reached: set[str]) -> None:
    if not socket.has_dualstack_ipv6():
        pytest.skip("this machine has no IPv6")
    port = free_port()
    for listening in listen(host, port, "port"):
        opened.enter_context(listening)
    assert {address for address in ("127.0.0.1", "::1") if answers(address, port)} == reached


def resolved(*addresses: str) -> list[tuple[int, int, int, str, tuple[str, int]]]:
    return [
        (socket.AF_INET6 if ":" in address else socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, 0))
        for address in addresses
    ]


def test_name_is_listened_on_at_each_of_its_addresses(opened: ExitStack, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved("127.0.0.1", "127.0.0.2", "127.0.0.1"))
    sockets = [opened.enter_context(listening) for listening in listen("a-name", 0, "port")]
    assert [listening.getsockname()[0] for listening in sockets] == ["127.0.0.1", "127.0.0.2"]


@pytest.mark.parametrize("order", [("127.0.0.1", "192.0.2.1"), ("192.0.2.1", "127.0.0.1")])
def test_addresses_of_a_name_that_this_machine_does_not_have_are_left_out(
    opened: ExitStack, monkeypatch: pytest.MonkeyPatch, order: tuple[str, str]
) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: resolved(*order))
    sockets = [opened.enter_context(listening) for listening in listen("a-name", 0, "port")]
    assert [listening.getsockname()[0] for listening in sockets] == ["127.0.0.1"]


@pytest.mark.parametrize("host", ["192.0.2.1", "no-such-host.invalid", "x" * 70, "a\nb"])
def test_host_that_can_not_be_listened_on_is_named_in_one_line(host: str) -> None:
    with pytest.raises(SettingsError) as caught:
        listen(host, 0, "port")
    assert "CIFAR10_HOST" in str(caught.value)
    assert str(caught.value).isprintable()
