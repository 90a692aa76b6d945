"""Write what `tritonserver` of PyPI's nvidia-pytriton needs: its model repository and its Python backend."""

import shutil
from pathlib import Path
from typing import Final

# https://docs.nvidia.com/deeplearning/triton-inference-server/user-guide/docs/batcher.html, "Recommended
# Configuration Process": a maximum batch size, and the dynamic batcher with its defaults, which "will create batches as
# large as possible up to the maximum batch size and will not delay when forming batches".
MAX_BATCH_SIZE: Final = 64
STUB: Final = "triton_python_backend_stub"


def write_repository(folder: Path, *, model: str, classes: int, instances: int) -> None:
    """Write config.pbtxt and model.py for one model.

    Args:
        classes: the length of an answer.
        instances: processes that infer, each with batches of its own:
            https://github.com/triton-inference-server/server/blob/main/docs/user_guide/model_configuration.md#instance-groups
    """
    version = folder / model / "1"
    version.mkdir(parents=True, exist_ok=True)
    shutil.copy(Path(__file__).with_name("model.py"), version)
    lines = (
        'backend: "python"',
        f"max_batch_size: {MAX_BATCH_SIZE}",
        'input [{ name: "image" data_type: TYPE_STRING dims: [ 1 ] }]',
        f'output [{{ name: "probabilities" data_type: TYPE_FP32 dims: [ {classes} ] }}]',
        f"instance_group [{{ count: {instances} kind: KIND_CPU }}]",
        "dynamic_batching { }",
    )
    (folder / model / "config.pbtxt").write_text("\n".join(lines) + "\n")


def write_backends(folder: Path, package: Path) -> None:
    """Copy the Python backend with the stub for Python 3.11, as nvidia-pytriton itself does (pytriton/triton.py).

    Args:
        package: the folder of the installed package `pytriton`.
    """
    server = package / "tritonserver"
    shutil.copytree(server / "backends", folder, dirs_exist_ok=True)
    shutil.copy(server / "python_backend_stubs/3.11" / STUB, folder / "python" / STUB)
