"""The names that `cifar10_serving.client` exports, and what importing it costs."""

import subprocess
import sys
from importlib import import_module

import pytest

from cifar10_serving import client
from cifar10_serving.client.commands.exit_codes import ExitCode
from tests.conftest import ROOT

PRIVATE_MODULES = [
    f"cifar10_serving.client.{file.stem}" for file in (ROOT / "cifar10_serving/client").glob("_[a-z]*.py")
]


def test_exported_names_are_there_sorted_and_are_those_that_the_private_modules_name() -> None:
    assert client.__all__ == sorted(client.__all__, key=lambda name: (not name.isupper(), name))
    named = [name for module in PRIVATE_MODULES for name in getattr(import_module(module), "__all__", [])]
    assert len(named) > 20
    assert set(named) <= set(client.__all__)
    records = {
        name for name in client.__all__ if getattr(getattr(client, name), "__module__", "") == "cifar10_serving.schemas"
    }
    assert set(client.__all__) == {*named, *records}


def test_importing_the_client_imports_no_image_library_and_nothing_of_the_service_or_the_command_line() -> None:
    program = (
        "import sys; from cifar10_serving import client; client.Client; "
        "print(*sorted({'numpy', 'PIL', 'argparse', 'service'} & set(sys.modules)))"
    )
    result = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert result.stdout.strip() == ""


@pytest.mark.parametrize("package", ["httpx", "pydantic", "rich"])
def test_command_line_says_which_package_is_not_installed(package: str) -> None:
    program = (
        f"import sys, runpy; sys.modules['{package}'] = None; runpy.run_module('cifar10_serving', run_name='__main__')"
    )
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert ended.returncode == ExitCode.FAILED
    assert ended.stderr.startswith(f"error: the package {package} is not installed for {sys.executable}. ")
    assert "pip install '.[client]'" in ended.stderr
    assert len(ended.stderr.splitlines()) == 1


def test_interrupt_while_the_command_line_is_being_imported_is_one_word() -> None:
    program = """
import runpy, sys

class Interrupt:
    def find_spec(self, name, *rest):
        if name == "httpx":
            raise KeyboardInterrupt

sys.meta_path.insert(0, Interrupt())
runpy.run_module("cifar10_serving", run_name="__main__")
"""
    ended = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr) == (ExitCode.STOPPED, "stopped\n")
