"""Python client of the service: `Client` and `AsyncClient`, their results and errors. See docs/client.md.

Results are the records of `cifar10_serving.schemas`. httpx and pydantic are imported only when a name is used, so that
the command line (`cifar10_serving.client.commands`) can report missing packages.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cifar10_serving.client._public import *  # noqa: F403  # its __all__ says which
    from cifar10_serving.client._public import __all__ as __all__
else:
    from importlib import import_module

    def __getattr__(name: str) -> object:
        if name.startswith("_") and name != "__all__":  # Python asks for __path__, and for modules before their import
            raise AttributeError(name)
        globals()[name] = value = getattr(import_module("cifar10_serving.client._public"), name)
        return value

    def __dir__() -> list[str]:
        return [*globals(), *import_module("cifar10_serving.client._public").__all__]
