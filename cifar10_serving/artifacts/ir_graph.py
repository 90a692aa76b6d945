"""The layers that a network in OpenVINO's own format (IR) may contain: those that only compute tensors from tensors.

OpenVINO's numbered operation sets have no operation that touches files, processes or the network. Operations of other
sets come from extensions, which run native code; operations with a state would let one request see another's images.
Both are rejected before OpenVINO reads the document.
"""

import re
from pathlib import Path
from typing import Final
from xml.parsers import expat

from cifar10_serving.artifacts.documents import printable
from cifar10_serving.errors import UnsafeGraphError

OPERATION_SET: Final = re.compile(r"opset[1-9][0-9]?")
STATEFUL: Final = frozenset({"Assign", "ReadValue"})
MAX_LAYERS: Final = 200_000
MAX_NESTING: Final = 64
MAX_IR_BYTES: Final = 2**27
"""Size limit of the document, which has no weights."""


def check_ir(document: bytes, file: Path) -> None:
    """Check that an IR document has only layers of the numbered operation sets, and none with a state.

    Args:
        document: the content of the `.xml` file.
        file: path for the error.

    Raises:
        UnsafeGraphError: it has another layer, or declares entities.
        ValueError: it is not XML, or not an IR.
    """
    checker = _Checker(file)
    parser = expat.ParserCreate()
    parser.StartDoctypeDeclHandler = checker.doctype
    parser.StartElementHandler = checker.start
    parser.EndElementHandler = checker.end
    try:
        parser.Parse(document, True)  # expat takes it by position only
    except expat.ExpatError as error:
        raise ValueError(f"it is not XML: {error}") from None
    if not checker.layers:
        raise ValueError("it has no layers")


class _Checker:
    def __init__(self, file: Path) -> None:
        self._file = file
        self._depth = 0
        self.layers = 0

    def doctype(self, *_: object) -> None:
        raise UnsafeGraphError(f"{self._file} declares a document type", expected="an IR that OpenVINO wrote")

    def start(self, name: str, attributes: dict[str, str]) -> None:
        self._depth += 1
        if self._depth > MAX_NESTING:
            raise UnsafeGraphError(f"{self._file} is nested more than {MAX_NESTING} levels deep")
        if self._depth == 1 and name != "net":
            raise ValueError("it is not an IR")
        if name != "layer":
            return
        self.layers += 1
        kind, version = attributes.get("type", ""), attributes.get("version", "")
        if self.layers > MAX_LAYERS:
            raise UnsafeGraphError(f"{self._file} has more than {MAX_LAYERS:,} layers")
        if not OPERATION_SET.fullmatch(version) or kind in STATEFUL:
            raise UnsafeGraphError(
                f"{self._file} has the layer '{printable(kind)}' of the set '{printable(version)}', which does more "
                "than compute",
                expected="layers of OpenVINO's numbered operation sets, without a state",
                remedy="export the model without this layer",
            )

    def end(self, _name: str) -> None:
        self._depth -= 1
