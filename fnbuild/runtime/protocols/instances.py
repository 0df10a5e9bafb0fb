"""Instances of a request: the body of an event for each."""

import base64
import binascii
from typing import Any, Dict, List, Optional

from .errors import ProtocolError

_WHITESPACE = b" \t\r\n"


class Instance:
    """The body of an event: its JSON values, and image files, which are base64 for the handler.

    `fnbuild.vision` reads the files as they are. `encoded` is the key of a text that the protocol
    defines as base64.
    """

    __slots__ = ("_text", "encoded", "files", "values")

    def __init__(
        self,
        values: Any,
        files: Optional[Dict[str, bytes]] = None,
        encoded: Optional[str] = None,
    ) -> None:
        self.values = values
        self.files = files or {}
        self.encoded: Optional[str] = None
        if encoded is not None:
            self.mark_encoded(encoded)

    def body(self) -> Any:
        """Return the body for the handler."""
        if not self.files:
            return self.values
        texts = {key: base64.b64encode(data).decode("ascii") for key, data in self.files.items()}
        return dict(self.values, **texts)

    def mark_encoded(self, key: str) -> None:
        """Record that the text at the key is base64."""
        self.encoded = key
        # The handler may replace it in the body.
        self._text = self.values[key]

    def has_invalid_base64(self) -> bool:
        """Return True if the text at `encoded` is not base64."""
        return self.encoded is not None and not _is_base64(self._text)


def check_count(count: int, limit: int) -> None:
    """Raise ProtocolError if a request has more instances than events may wait."""
    if count > limit:
        raise ProtocolError(
            "the request has %d instances, and the limit is %d (maxBacklog of the http trigger); "
            "send several requests" % (count, limit)
        )


def _is_base64(text: str) -> bool:
    try:
        data = text.encode("ascii")
        if data.startswith(b"data:"):
            data = data[data.find(b",", 0, 200) + 1 :]
        data = data.translate(None, _WHITESPACE)
        decoded = binascii.a2b_base64(data)
    except ValueError:
        return False
    # The decoder skips invalid characters, so the result would be too short.
    return len(data) % 4 == 0 and len(decoded) == len(data) // 4 * 3 - data[-2:].count(b"=")


def join_json(fragments: List[bytes], key: str) -> bytes:
    """Return the JSON object whose only key has a list of values, which are JSON already."""
    return b'{"%s": [%s]}' % (key.encode("ascii"), b", ".join(fragments))
