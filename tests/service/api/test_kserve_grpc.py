import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.conftest import ROOT
from tests.service.api.kserve_grpc.conftest import OWN_PROCESS

pytestmark = pytest.mark.slow

STARTS_A_PROCESS = """
import asyncio
import service.api.kserve.grpc_server
import grpc
import uvloop

async def main():
    server = grpc.aio.server()
    server.add_insecure_port("127.0.0.1:0")
    await server.start()
    for _ in range(3):
        await (await asyncio.create_subprocess_exec("true", start_new_session=True)).wait()
    await server.stop(None)

uvloop.run(main())
"""


def test_the_interface_in_a_process_without_tritonclients_messages() -> None:
    folder = Path(__file__).with_name("kserve_grpc")
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(folder)]
    result = subprocess.run(
        command, cwd=ROOT, env=own | {OWN_PROCESS: "1"}, capture_output=True, text=True, check=False, timeout=240
    )
    assert result.returncode == 0, result.stdout
    assert " passed" in result.stdout


def test_nothing_but_the_services_own_lines_is_in_the_log_when_a_process_is_started() -> None:
    result = subprocess.run(
        [sys.executable, "-c", STARTS_A_PROCESS], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert (result.stdout, result.stderr) == ("", "")
