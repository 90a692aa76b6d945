import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.service.api.open_inference_grpc.conftest import OWN_PROCESS

pytestmark = pytest.mark.slow


def test_the_interface_in_a_process_without_tritonclients_messages() -> None:
    folder = Path(__file__).with_name("open_inference_grpc")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    result = subprocess.run(
        command, cwd=ROOT, env=own | {OWN_PROCESS: "1"}, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout
