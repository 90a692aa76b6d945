"""What training writes and the service reads: names, metadata, the artifact on disk, the error tree.

Pure: only the standard library and pydantic, so that every other package (training, runtime, service,
client) can import it without pulling in a framework.
"""

from typing import Final

PROJECT_VERSION: Final = "0.1.0"
"""The release of this project; pyproject.toml reads it from here."""
