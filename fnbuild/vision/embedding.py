"""The base of functions with an expensive step for each image, whose result is cached."""

import hashlib
import os
import pathlib
import sys
from typing import Any, Tuple

from .arrays import Size
from .base import Function, LazyAttribute
from .embedding_cache import EmbeddingCache
from .packing import pack, unpack
from .request_body import image_file


class EmbeddingFunction(Function):
    """A function that may have a method `embed`.

    `embed(image)` returns arrays or tensors, in dicts and lists with numbers and text. The other
    methods then get them, as NumPy arrays, instead of the image. They are kept in shared memory for
    all workers: at most `cache_bytes`, and three quarters of the shared memory.
    """

    embed: Any = None
    cache_bytes = 2**28
    _code = b""

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        # `fnbuild watch` loads changed code into a worker: what older code embedded is not used.
        cls._code = _code_version(cls.__module__)

    @LazyAttribute
    def _cache(self) -> EmbeddingCache:
        function_class = type(self)
        identity = "%s %s %s" % (
            os.environ.get("NUCLIO_FUNCTION_NAME", ""),
            function_class.__module__,
            function_class.__qualname__,
        )
        digest = hashlib.blake2b(identity.encode("utf-8"), digest_size=6).hexdigest()
        return EmbeddingCache(digest, self.cache_bytes)

    def subject(self, event: Any) -> Tuple[Any, Size]:
        """Return the image of an event, or its embedding; and the size of the image."""
        if self.embed is None:
            image = self.decode(event)
            return image, (image.shape[1], image.shape[0])
        digest = hashlib.blake2b(self.mode.encode("ascii") + self._code, digest_size=20)
        digest.update(image_file(event))
        data = self._cache.get(digest.hexdigest())
        if data is None:
            image = self.decode(event)
            entry = {"size": [image.shape[1], image.shape[0]], "embedding": self.embed(image)}
            packed = pack(entry)
            self._cache.put(digest.hexdigest(), packed)
            data = bytearray(packed)
        # The first request gets the same types as the following ones.
        entry = unpack(data)
        width, height = entry["size"]
        return entry["embedding"], (width, height)


def _code_version(module_name: str) -> bytes:
    """Return a digest of the sizes and times of the sources beside a module."""
    file = getattr(sys.modules.get(module_name), "__file__", None)
    digest = hashlib.blake2b(digest_size=8)
    try:
        for path in sorted(pathlib.Path(file).parent.glob("*.py")) if file else ():
            facts = path.stat()
            digest.update(("%s %d %d " % (path.name, facts.st_size, facts.st_mtime_ns)).encode())
    except OSError:
        # A source was removed meanwhile.
        return b""
    return digest.digest()
