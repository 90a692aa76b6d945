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
from service.settings import read_settings, variable, warn_of_names

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
        found = ModelsFolder(settings.models).scan()
        if not found:
            raise SettingsError(
                f"{variable('models')} = {str(settings.models)!r}: there is no published version",
                expected="a folder that contains NAME/VERSION/",
            )
        runtime = open_runtime(
            settings.runtime,
            settings.device,
            settings.precision,
            max_batch_size=settings.max_batch_size,
            compiled_models=settings.compiled_models_folder,
        )
        checks = list(check_published(settings.models, runtime, max_accuracy_drop=settings.max_accuracy_drop))
    except ProjectError as error:
        print(f"error: {error}", file=sys.stderr)
        return COULD_NOT_CHECK
    except KeyboardInterrupt:
        return STOPPED
    print(f"{runtime.name} {runtime.version} on {runtime.device}, {' or '.join(runtime.precisions)}\n")
    print("\n".join(report_lines(checks)))
    return PASSED if all(result.problem is None for result in checks) else FAILED
