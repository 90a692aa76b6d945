"""The compose file passes the settings on; `tests.e2e.test_container` tests what the container does with them."""

import re

from service.settings import DEPRECATED_NAMES, Settings, variable
from tests.conftest import ROOT

NOT_PASSED_ON = {
    "host": "the image listens on every interface of its container",
    "port": "8000 in the container; CIFAR10_PORT is the port of this machine",
    "models": "the mounted folder; CIFAR10_MODELS is the folder of this machine",
    "models_mirror_folder": "a folder of the volume, set in the image; compose mounts a folder instead of a store",
    "models_mirror_versions": "only for a store",
    "compiled_models": "the volume's folder, set in the image",
    "runtime": "each image has one",
    "device": "that of the image",
    "cloud": "SageMaker and Vertex AI start containers without compose",
}


def test_every_setting_is_passed_on_or_left_out_for_a_reason() -> None:
    text = (ROOT / "docker-compose.yml").read_text()
    passed_on = re.findall(r"^    - (CIFAR10_\w+)(?:=\$\{\1:-[^}]*\})?(?: #.*)?$", text, re.MULTILINE)
    assert len(passed_on) == len(set(passed_on))
    wanted = (Settings.model_fields.keys() | DEPRECATED_NAMES.keys()) - NOT_PASSED_ON.keys()
    assert {variable(name) for name in wanted} == set(passed_on)
    assert NOT_PASSED_ON.keys() <= Settings.model_fields.keys()


def test_what_the_image_sets_is_not_taken_away_by_a_name_alone() -> None:
    image = re.findall(r"\b(CIFAR10_\w+)=", (ROOT / "Dockerfile").read_text())
    alone = re.findall(r"^    - (CIFAR10_\w+)$", (ROOT / "docker-compose.yml").read_text(), re.MULTILINE)
    assert "CIFAR10_LAME_DUCK_S" in image
    assert not set(image) & set(alone)
