"""Errors of requests, whose messages are for the caller."""

from typing import Optional


class RequestError(ValueError):
    """The request cannot be answered; the message says what is wrong with it.

    `reply_status` is the HTTP status. The bases answer with it, and so does a worker if a handler
    does not catch the error.
    """

    reply_status = 400

    def __init__(self, message: str, status: Optional[int] = None) -> None:
        super().__init__(message)
        if status is not None:
            self.reply_status = status
