"""Compressed bodies of requests and responses: gzip and deflate."""

import zlib
from typing import Optional

from .errors import ProtocolError

# Smaller responses are not worth it.
_MIN_SIZE = 1024
# The fastest; higher levels take several times as long for a few percent.
_LEVEL = 1
# For zlib: with the header of zlib or gzip; the format of gzip.
_ANY_FORMAT, _GZIP_FORMAT, _ZLIB_FORMAT = 47, 31, 15


def decompress(body: bytes, coding: str, limit: int) -> bytes:
    """Return the body without its coding, at most `limit` bytes. Raises ProtocolError."""
    if coding.strip().lower() not in ("gzip", "x-gzip", "deflate"):
        message = "the Content-Encoding %r is not supported; send gzip, deflate or neither"
        raise ProtocolError(message % coding, 415)
    decompressor = zlib.decompressobj(_ANY_FORMAT)
    try:
        data = decompressor.decompress(body, limit + 1)
    except zlib.error as problem:
        raise ProtocolError("the body is not valid %s: %s" % (coding, problem)) from None
    if len(data) > limit:
        message = "the decompressed body has more than %d bytes; raise maxRequestBodySize"
        raise ProtocolError(message % limit, 413)
    if not decompressor.eof or decompressor.unused_data:
        raise ProtocolError("the body is not one complete %s stream" % coding)
    return data


def choose_coding(accepted: str, size: int, is_binary: bool) -> Optional[str]:
    """Return gzip or deflate if a response of this size should be compressed.

    Binary tensors are compressed only for a client that names a single coding: libraries name all
    that they know, and such data takes long to compress.
    """
    if size < _MIN_SIZE:
        return None
    names = {}
    for part in accepted.lower().split(","):
        name, _, quality = part.partition(";")
        names[name.strip()] = quality.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    if is_binary and len(names) > 1:
        return None
    return next((name for name in ("gzip", "deflate") if names.get(name)), None)


def compress(body: bytes, coding: str) -> bytes:
    """Return the body with a coding from `choose_coding`."""
    form = _GZIP_FORMAT if coding == "gzip" else _ZLIB_FORMAT
    compressor = zlib.compressobj(_LEVEL, zlib.DEFLATED, form)
    return compressor.compress(body) + compressor.flush()
