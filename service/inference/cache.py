"""An LRU cache of answers by version and pixels, bounded in bytes.

Off by default. It stores probabilities, so that `top_k` doesn't matter. `functools.lru_cache` would keep the pixels
themselves as keys, and can't be filled by a later result.
"""

from collections import OrderedDict
from hashlib import blake2b
from typing import Final

from cifar10_serving.runtimes.base import Images, Probabilities
from service.registry.version import ModelVersion

DIGEST_BYTES: Final = 16
ENTRY_BYTES: Final = 360
"""Memory of an entry in addition to its probabilities: key, digest, array, and its place in the dictionary."""

Key = tuple[str, int, str, bytes]


class PredictionCache:
    """Probabilities by version and pixels; used only from the event loop's thread.

    Args:
        max_bytes: maximum size of all entries.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._entries: OrderedDict[Key, Probabilities] = OrderedDict()
        self.hits = 0
        self.misses = 0

    @property
    def size_bytes(self) -> int:
        """Estimated size of all entries."""
        return self._size_bytes

    def key(self, version: ModelVersion, images: Images) -> Key:
        """Return the key of an answer: the pixels, and the version with its hash, as a number may be published again.

        Args:
            version: a ready version.
            images: (rows, height, width, 3) uint8 RGB 0..255, contiguous.
        """
        metadata = version.metadata
        network = [metadata.files[name].sha256 for name in metadata.network_files] if metadata is not None else []
        digest = blake2b(images.data, digest_size=DIGEST_BYTES).digest()
        return version.name, version.version, "".join(network), digest

    def get(self, key: Key) -> Probabilities | None:
        """Return the probabilities (rows, classes) float32 for this key, or None."""
        probabilities = self._entries.get(key)
        if probabilities is None:
            self.misses += 1
            return None
        self.hits += 1
        self._entries.move_to_end(key)
        return probabilities

    def put(self, key: Key, probabilities: Probabilities) -> None:
        """Store probabilities, and evict the least recently used entries if there is no room."""
        if (former := self._entries.pop(key, None)) is not None:
            self._size_bytes -= ENTRY_BYTES + former.nbytes
        self._entries[key] = probabilities.copy()  # otherwise a row would keep its whole batch in memory
        self._size_bytes += ENTRY_BYTES + probabilities.nbytes
        while self._size_bytes > self._max_bytes:
            _, unused = self._entries.popitem(last=False)
            self._size_bytes -= ENTRY_BYTES + unused.nbytes
