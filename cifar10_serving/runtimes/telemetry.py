"""Keep libraries from reporting their use: nothing that this project starts contacts a host by itself.

OpenVINO's Python package sends an event to Google Analytics at each import, through `openvino_telemetry`, from a forked
child process. Its documented opt-out, `opt_in_out --opt_out`, is no help here: it sends an event itself, and keeps the
decision in the user's home, which a container may not have and which other programs of that user share. Without the
package OpenVINO uses a stub of its own that sends nothing, so the package is hidden from it.

No other library of requirements/*.txt reports its use. Those of the benchmark's alternatives are switched off where
they are started, in `bench.servers`.
"""

import sys
from typing import Final

REPORTING_PACKAGES: Final = ("openvino_telemetry",)
"""Optional to what uses them: `import` raises ImportError, and they are done without."""


def disable_telemetry() -> None:
    """Hide the packages that report; call it before anything imports them."""
    for package in REPORTING_PACKAGES:
        sys.modules[package] = None  # type: ignore[assignment]  # the import system's own way to say "not there"
