"""Disables usage reporting of libraries: nothing that this project starts contacts a host by itself.

OpenVINO's Python package sends an event to Google Analytics at each import, through `openvino_telemetry`, from a forked
child process. Its documented opt-out, `opt_in_out --opt_out`, does not help here: it sends an event itself, and stores
the decision in the user's home, which a container may not have and which the user's other programs share. Without the
package OpenVINO uses a stub that sends nothing, so the package is hidden from it.

No other library in requirements/*.txt reports its use. The benchmark's alternatives are configured in `bench.servers`.
"""

import sys
from typing import Final

REPORTING_PACKAGES: Final = ("openvino_telemetry",)
"""Optional packages: `import` raises ImportError, and their users continue without them."""


def disable_telemetry() -> None:
    """Hide the packages that report usage; call it before anything imports them."""
    for package in REPORTING_PACKAGES:
        sys.modules[package] = None  # type: ignore[assignment]  # the import system's own way to say "not there"
