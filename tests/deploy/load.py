"""Requests at a fixed rate by a client without retries, over kept connections; counts answers by status."""

import http.client
import itertools
import threading
import time
from collections import Counter
from typing import Self
from urllib.parse import urlsplit


class Load:
    """Sends requests while a `with` block runs, or until `stop`. Each thread sends every n-th request.

    Args:
        address: the balancer's address.
        image: the body of each request.
        rate: requests per second; requests that are due while every thread waits for an answer are sent late.
    """

    def __init__(self, address: str, image: bytes, rate: float, *, threads: int = 16) -> None:
        self._host = urlsplit(address).netloc
        self._image = image
        self._rate = rate
        self._numbers = itertools.count()
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._stopped = threading.Event()
        self.slowest_s = 0.0
        self._threads = [threading.Thread(target=self._send_all, daemon=True) for _ in range(threads)]

    def __enter__(self) -> Self:
        self._start_s = time.monotonic()
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """Send no more, and wait for the last answers."""
        self._stopped.set()
        for thread in self._threads:
            thread.join(60)

    def counts(self) -> Counter[str]:
        """Return the number of requests by the status of their answer, or by the name of an error."""
        with self._lock:
            return self._counts.copy()

    def _send_all(self) -> None:
        connection = http.client.HTTPConnection(self._host, timeout=30)
        while True:
            with self._lock:
                due_s = self._start_s + next(self._numbers) / self._rate
            if self._stopped.wait(max(0.0, due_s - time.monotonic())):
                connection.close()
                return
            sent_s = time.monotonic()
            try:
                connection.request("POST", "/predict", self._image, {"Content-Type": "image/png"})
                with connection.getresponse() as response:
                    response.read()
                outcome = str(response.status)
            except (OSError, http.client.HTTPException) as error:
                outcome = type(error).__name__
                connection.close()
            with self._lock:
                self._counts[outcome] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - sent_s)
