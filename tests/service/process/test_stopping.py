import subprocess
import sys

from tests.conftest import ROOT

HANGING_THREAD = """
import sys, threading
from service.process.stopping import exit_within
threading.Thread(target=threading.Event().wait).start()
exit_within(0.2, 7)
print("the main thread has ended")
"""
HANGING_MAIN_THREAD = """
import threading
from service.process.stopping import exit_within
exit_within(30)
exit_within(0.2, 7)
threading.Event().wait()
"""


def run(program: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False, timeout=20
    )


def test_process_ends_in_time_whatever_hangs() -> None:
    waiting = run(HANGING_THREAD)
    assert (waiting.returncode, waiting.stdout) == (7, "the main thread has ended\n")
    assert run(HANGING_MAIN_THREAD).returncode == 7
