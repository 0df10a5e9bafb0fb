"""The error of a request that does not follow its protocol."""

from typing import Any, Dict


class ProtocolError(ValueError):
    """A request that cannot be served; the message is for the client."""

    def __init__(self, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.reply_status = status


def error_body(message: str) -> Dict[str, Any]:
    """Return the body of an error in both protocols."""
    return {"error": message}
