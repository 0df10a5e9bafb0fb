"""What a processor says about itself, on every platform that runs fnbuild's own."""

from __future__ import annotations

from contextlib import suppress
from typing import Literal

import msgspec

from fnbuild.runtime.health import PORT

ADMIN_PORT = PORT
"""Where a processor in a container says how it is; it is not for callers of the function."""

ProcessorState = Literal["starting", "ready", "unhealthy", "draining", "stopped"]


class WorkerStatus(msgspec.Struct, frozen=True):
    id: int | str
    state: str = ""
    pid: int | None = None
    restarts: int = 0
    reason: str = ""
    message: str = ""


class Status(msgspec.Struct, frozen=True):
    """What a processor says about itself.

    When it is unhealthy, `reason` is one line and `message` the traceback, or what else there is.
    """

    state: ProcessorState
    pid: int
    revision: int
    reason: str = ""
    message: str = ""
    workers: list[WorkerStatus] = msgspec.field(default_factory=list)
    connections: int = 0
    in_flight: int = 0
    mount: str | None = None
    warnings: list[str] = msgspec.field(default_factory=list)

    @property
    def available(self) -> bool:
        return self.state == "ready"

    @property
    def detail(self) -> str:
        """The message without its first line, where that is the reason."""
        return self.message.removeprefix(self.reason).lstrip("\n") if self.reason else self.message

    @property
    def words(self) -> str:
        """The reason, and below it the detail."""
        return "\n".join(part for part in (self.reason, self.detail) if part)

    @property
    def losses(self) -> str:
        """Which part of the workers is down, and why; empty when all are well."""
        down = [one for one in self.workers if one.reason and one.state not in ("ready", "busy")]
        if not down:
            return ""
        verb = "is" if len(down) == 1 else "are"
        count = f"{len(down)} of {len(self.workers)} workers {verb} down"
        return f"{count}: {down[0].reason}"


class ImportVerdict(msgspec.Struct, frozen=True):
    """The result of the runtime's `importcheck` for a handler."""

    verdict: Literal["ok", "failed", "unknown"]
    reason: str = ""
    detail: str = ""

    @classmethod
    def of(cls, output: bytes) -> ImportVerdict:
        """Return the verdict in the check's output, `unknown` if there is none."""
        for line in reversed(output.splitlines()):
            with suppress(msgspec.MsgspecError):
                return _VERDICT.decode(line)
        return cls("unknown", "the check ended without a result")

    @property
    def more(self) -> str:
        """Return the detail, unless the reason says the same."""
        return "" if self.detail == self.reason else self.detail


def decode_status(body: bytes) -> Status:
    """Return the status in a processor's reply; raise `msgspec.MsgspecError` if there is none."""
    return _STATUS.decode(body)


# Decoders are made here, where the import system lets one thread in: msgspec completes a type when
# it first decodes it, and two threads that do so at the same time crash the interpreter.
_STATUS = msgspec.json.Decoder(Status)
_VERDICT = msgspec.json.Decoder(ImportVerdict)
