import subprocess
import sys

import pytest

MEASURE = """
import resource
import numpy as np
{first}
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
np.ones(16 * 2**20, np.float32)
before = faults()
for _ in range(5):
    np.ones(16 * 2**20, np.float32)
print(faults() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="mallopt is glibc's")
def test_freed_memory_is_used_again_without_the_system() -> None:
    def page_faults(first: str) -> int:
        done = subprocess.run(
            [sys.executable, "-c", MEASURE.format(first=first)], capture_output=True, text=True, check=True
        )
        return int(done.stdout)

    kept = page_faults("from training.allocation import keep_memory; keep_memory()")
    assert kept < page_faults("") / 10
