from pathlib import Path

import pytest

from cifar10_serving.errors import RuntimeUnavailableError
from service.app import create_app
from service.errors import SettingsError
from service.settings import Settings
from tests.conftest import MODELS


def test_missing_models_folder_is_named_with_its_variable(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"CIFAR10_MODELS = .*/nowhere': there is no such folder"):
        create_app(Settings(models=tmp_path / "nowhere"))


def test_gpu_that_is_not_there_stops_the_start(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RuntimeUnavailableError, match="device gpu was requested"):
        create_app(Settings(models=MODELS, device="gpu"))
