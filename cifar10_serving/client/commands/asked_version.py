"""The version that `--model` and `--version` select, and its metadata: labels, input size."""

from cifar10_serving.artifacts.metadata import ModelMetadata
from cifar10_serving.client._client import Client
from cifar10_serving.client.commands.exit_codes import CommandLineError
from cifar10_serving.schemas import ModelStatus


def asked_metadata(client: Client, model: str | None, version: str | None) -> ModelMetadata:
    """Return the metadata of the version that answers such a request.

    Args:
        client: the client of the service.
        model: name of the model; None for the service's default.
        version: number or label of the version; None for the serving one.

    Raises:
        CommandLineError: no version answers.
        ClientError: there is no such model or version, or the request failed.
    """
    status = _default(client) if model is None else client.model(model)
    number = status.serving_version if version is None else _number(status, version)
    if number is None:
        raise CommandLineError(f"no version of {status.name} is ready", remedy="`models` lists the ready versions")
    return client.metadata(status.name, number)


def _default(client: Client) -> ModelStatus:
    status = next((entry for entry in client.models().models if entry.default), None)
    if status is None:
        raise CommandLineError("no model is ready", remedy="`models` lists the states")
    return status


def _number(status: ModelStatus, version: str) -> int:
    if version.isascii() and version.isdigit():
        return int(version)
    if version not in status.labels:
        known = [*(str(entry.version) for entry in status.versions), *status.labels]
        raise CommandLineError(f"{status.name} has no version labelled '{version}'", expected=", ".join(known))
    return status.labels[version]
