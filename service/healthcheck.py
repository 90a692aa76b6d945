"""Health check for containers, `python -m service.healthcheck`: asks this machine's service whether it is ready."""

import http.client
import sys

from cifar10_serving.errors import ProjectError
from cifar10_serving.text import printable
from service.settings import read_settings

TIMEOUT_S = 4
LOOPBACK = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104  # asked, not listened on


def main() -> int:
    """Return 0 if /readyz answers 200, otherwise print the reason and return 1."""
    try:
        settings = read_settings()
        host = LOOPBACK.get(settings.host, settings.host)
        connection = http.client.HTTPConnection(host, settings.port, timeout=TIMEOUT_S)
        connection.request("GET", "/readyz")
        response = connection.getresponse()
        print(response.read().decode())
    except (OSError, http.client.HTTPException, ProjectError) as error:
        print(printable(str(error)))
        return 1
    return 0 if response.status == http.client.OK else 1


if __name__ == "__main__":
    sys.exit(main())
