import subprocess
import sys

import pytest

from tests.conftest import ROOT

PROGRAM = """
import ctypes
from service.process.lifecycle import configure_malloc
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
libc.free.argtypes = [ctypes.c_void_p]
if {keep}:
    assert configure_malloc()
libc.free(libc.malloc(4_000_000))    # what moves the limit
def resident():
    return int(open('/proc/self/statm').read().split()[1]) * 4096
before = resident()
blocks, others = [], []
for _ in range(40):
    blocks.append(libc.malloc(1_000_000))
    ctypes.memset(blocks[-1], 1, 1_000_000)
    others.append(libc.malloc(140_000))  # lives on, as something always does
for block in blocks:
    libc.free(block)
print((resident() - before) // 1_000_000)
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
def test_large_blocks_go_back_to_the_system() -> None:
    def megabytes_kept(*, keep: bool) -> int:
        program = PROGRAM.replace("{keep}", str(keep))
        result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
        return int(result.stdout)

    assert megabytes_kept(keep=True) <= 2
    assert megabytes_kept(keep=False) >= 20  # else this would not be needed any more


def test_garbage_is_collected_seldom_and_still_collected() -> None:
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
