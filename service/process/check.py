"""`python -m service check`: verify every published version as the service would, without serving.

It takes the same variables and flags as `python -m service`, so that it uses the same folder, runtime, device and
precision. Standard output is a table, and the reason of each failure.
"""

import logging
import sys
from collections.abc import Sequence
from typing import Final

from cifar10_serving.errors import ProjectError
from cifar10_serving.runtimes.selection import open_runtime
from cifar10_serving.runtimes.verification import check_published, report_lines
from service.errors import SettingsError
from service.registry.models_folder import ModelsFolder
from service.registry.models_mirror import open_mirror
from service.settings import Settings, read_settings, variable, warn_of_names

PASSED: Final = 0
FAILED: Final = 1
COULD_NOT_CHECK: Final = 2
STOPPED: Final = 130


def check(arguments: Sequence[str]) -> int:
    """Print the table; return 0 if every version passed, 1 if one failed, 2 if nothing could be checked.

    Args:
        arguments: command-line flags.
    """
    logging.basicConfig(level=logging.WARNING, format="%(levelname)s: %(message)s")
    try:
        settings = read_settings(arguments)
        warn_of_names(arguments)
        missing = _mirror(settings)
        if not ModelsFolder(settings.models_folder).scan() and not missing:
            raise SettingsError(
                f"{variable('models')} = {settings.models!r}: there is no published version",
                expected="a folder that contains NAME/VERSION/",
            )
        runtime = open_runtime(
            settings.runtime,
            settings.device,
            settings.precision,
            max_batch_size=settings.max_batch_size,
            compiled_models=settings.compiled_models_folder,
        )
        checks = list(check_published(settings.models_folder, runtime, max_accuracy_drop=settings.max_accuracy_drop))
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_CHECK
    except KeyboardInterrupt:
        return STOPPED
    print(f"{runtime.name} {runtime.version} on {runtime.device}, {' or '.join(runtime.precisions)}\n")
    print("\n".join([*report_lines(checks), *missing]))
    return PASSED if not missing and all(result.problem is None for result in checks) else FAILED


def _mirror(settings: Settings) -> list[str]:
    """Mirror the store, if the settings name one; return a line for each version that could not be mirrored.

    Raises:
        SettingsError: the store can't be followed.
    """
    mirror = open_mirror(settings)
    if mirror is None:
        return []
    mirror.update(asked=True)
    while mirror.has_more:
        mirror.update()
    if mirror.problem is not None:
        raise SettingsError(f"{variable('models')}: {mirror.problem}")
    failed = mirror.failed()
    return [f"{name}/{version}: {reason}" for name, reasons in failed.items() for version, reason in reasons.items()]
