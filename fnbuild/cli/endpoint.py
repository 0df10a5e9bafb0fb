"""The address of a function that gets the requests of a check or a replay."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from fnbuild.cli.invocation import InvocationRequest, send_request
from fnbuild.cvat.check.probe import TargetReply
from fnbuild.cvat.replay import RecordedRequest
from fnbuild.errors import PlatformError, UnavailableError
from fnbuild.runtime.recording.files import NO_RECORD


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A function at a URL, with the headers that it needs. `restart` restarts its workers."""

    url: str
    headers: dict[str, str]
    seconds: float = 300.0
    restart: Callable[[], object] | None = None

    def send(self, body: bytes) -> TargetReply:
        """Send a request of CVAT; see `send_again`."""
        headers = {"Content-Type": "application/json"}
        return self.send_again(RecordedRequest("", "POST", "", headers, body))

    def send_again(self, request: RecordedRequest) -> TargetReply:
        """Send a request that is not recorded again.

        Raises `TimeoutError`, or `UnavailableError` without a reply.
        """
        headers = {**request.headers, **self.headers, NO_RECORD: "1"}
        sent = InvocationRequest(
            request.method, request.path, request.body or None, headers, self.seconds
        )
        try:
            reply = send_request(self.url, sent)
        except PlatformError as error:
            if isinstance(error.__context__, TimeoutError):
                raise TimeoutError(f"no answer within {self.seconds:g} s") from None
            raise UnavailableError(error.message) from error
        return TargetReply(reply.status, reply.body, reply.seconds)

    def restart_workers(self) -> bool:
        if self.restart is not None:
            self.restart()
        return self.restart is not None
