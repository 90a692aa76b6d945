import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import ctypes
from cifar10_serving.runtimes.machine import return_free_memory
from service.process.lifecycle import configure_malloc
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
assert configure_malloc()
libc.free(libc.malloc(20_000_000))  # would raise a threshold that is not set
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * 4096
before = resident()
blocks, others = [], []
for _ in range(40):
    blocks.append(libc.malloc({size}))
    ctypes.memset(blocks[-1], 1, {size})
    others.append(libc.malloc(140_000))  # lives on, as something always does
for block in blocks:
    libc.free(block)
kept = resident() - before
assert return_free_memory()
print(kept // 1_000_000, (resident() - before) // 1_000_000)
"""

HANGING_THREAD = """
import sys, threading
from service.process.lifecycle import exit_within
threading.Thread(target=threading.Event().wait).start()
exit_within(0.2, 7)
print("the main thread has ended")
"""
HANGING_MAIN_THREAD = """
import threading
from service.process.lifecycle import exit_within
exit_within(30)
exit_within(0.2, 7)
threading.Event().wait()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_blocks_of_a_photo_are_kept_until_asked_and_large_ones_go_back_at_once() -> None:
    def megabytes(size_bytes: int) -> tuple[int, int]:
        """Return the memory that is resident after forty blocks are freed, and after free memory is returned."""
        program = PROGRAM.replace("{size}", str(size_bytes))
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        kept, left = map(int, result.stdout.split())
        return kept, left

    kept, left = megabytes(1_000_000)
    assert kept >= 30
    assert left <= 7
    assert max(megabytes(5_000_000)) <= 7


def test_garbage_is_collected_rarely_but_completely() -> None:
    program = """
import gc, weakref
from service.process.lifecycle import freeze_gc
class Cycle:
    def __init__(self):
        self.itself = self
freeze_gc()
assert gc.get_freeze_count() > 1000
collections = gc.get_stats()[0]["collections"]
lists = [[] for _ in range(5_000)]
assert gc.get_stats()[0]["collections"] == collections
garbage = weakref.ref(Cycle())
lists += [[] for _ in range(30_000)]
assert garbage() is None
"""
    subprocess.run([sys.executable, "-c", program], cwd=ROOT, check=True)


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20
    )


def test_process_ends_in_time_whatever_hangs() -> None:
    waiting = run(HANGING_THREAD)
    assert (waiting.returncode, waiting.stdout) == (7, "the main thread has ended\n")
    assert run(HANGING_MAIN_THREAD).returncode == 7
