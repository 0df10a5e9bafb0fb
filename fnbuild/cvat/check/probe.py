"""Send single requests to the function under examination, and apply the rules to the replies."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from fnbuild.cvat.check.findings import FindingCollector
from fnbuild.cvat.check.pictures import CheckPicture
from fnbuild.cvat.check.requests import sample_request
from fnbuild.cvat.replies import ParsedReply, read_reply
from fnbuild.cvat.request import CvatRequest
from fnbuild.cvat.shapes import Size
from fnbuild.errors import UnavailableError
from fnbuild.function import labels
from fnbuild.function.types import Function


@dataclass(frozen=True, slots=True)
class TargetReply:
    """The status and body of a reply, and the duration of the request in seconds."""

    status: int
    body: bytes
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        return 200 <= self.status < 300

    @property
    def content(self) -> Any:
        """The decoded body; its text if it is not JSON."""
        with suppress(ValueError, RecursionError):
            return json.loads(self.body)
        return self.body.decode(errors="replace")

    @property
    def failure_message(self) -> str:
        return f"it answers {self.status}: {self.error_message or '(no body)'}"

    @property
    def error_message(self) -> str:
        """The error in the body, in one line."""
        text = self.body[-2000:].decode(errors="replace")
        with suppress(ValueError):
            value = json.loads(self.body)
            text = str(value.get("error", value)) if isinstance(value, dict) else str(value)
        lines = [line.strip() for line in text.splitlines() if line.strip()]
        # A traceback ends with its message.
        return (lines[-1] if "Traceback" in text else lines[0])[:200] if lines else ""


class Target(Protocol):
    """The function under examination."""

    def send(self, body: bytes) -> TargetReply:
        """Send one request. Raises `TimeoutError`, or `UnavailableError` without a reply."""

    def restart_workers(self) -> bool:
        """Restart the workers; False if that is not possible."""


@dataclass(frozen=True, slots=True)
class Subject:
    """The function as far as it is known, and its kind. `has_spec` is False for a bare URL."""

    function: Function
    kind: str
    has_spec: bool = True


@dataclass(frozen=True, slots=True)
class ExaminedCase:
    """A request of a check, and its duration in seconds."""

    name: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Answer:
    """The reply to a valid request, decoded and parsed."""

    reply: Any
    parsed: ParsedReply


@dataclass(slots=True)
class Probe:
    """Sends requests to one function. `progress` is called with the name of each request."""

    subject: Subject
    target: Target
    progress: Callable[[str], object]
    collector: FindingCollector = field(default_factory=FindingCollector)
    cases: list[ExaminedCase] = field(default_factory=list)
    unanswered: int = 0
    """The number of requests without a reply since the last reply."""

    def sample(self, picture: CheckPicture, states: Sequence[Any] = ()) -> CvatRequest:
        return sample_request(self.subject.kind, self.subject.function, picture.image, states)

    def send(self, name: str, body: bytes) -> TargetReply | None:
        """Send a request; add a finding if there is no reply."""
        self.progress(name)
        began = time.monotonic()
        try:
            reply = self.target.send(body)
        except (TimeoutError, UnavailableError) as error:
            self.unanswered += 1
            rule = "slow" if isinstance(error, TimeoutError) else "no-answer"
            self.collector.add(name, rule, "", str(error))
            return None
        finally:
            self.cases.append(ExaminedCase(name, time.monotonic() - began))
        self.unanswered = 0
        return reply

    def send_valid(self, name: str, request: CvatRequest, sizes: Sequence[Size]) -> Answer | None:
        """Send a valid request, and add the findings about its reply; None without a valid status.

        The shapes in the reply may refer to a picture of any of the sizes.
        """
        reply = self.send(name, request.body)
        if reply is None:
            return None
        if not reply.ok:
            self.collector.add(name, "status", "", reply.failure_message)
            return None
        content, declared = reply.content, labels.function_labels(self.subject.function)
        readings = [
            read_reply(self.subject.kind, reply.body, declared, size, request) for size in sizes
        ]
        parsed = min(readings, key=lambda reading: len(reading.diagnostics))
        if not self.subject.has_spec:
            diagnostics = tuple(item for item in parsed.diagnostics if item.rule != "no-labels")
            parsed = replace(parsed, diagnostics=diagnostics)
        self.collector.add_reply(name, parsed.diagnostics, content)
        return Answer(content, parsed)

    def follow(self, name: str, picture: CheckPicture, states: Sequence[Any]) -> ParsedReply | None:
        """Send a tracker's states, and return the reply; None if it has errors."""
        answer = self.send_valid(name, self.sample(picture, states), picture.sizes)
        return None if answer is None or answer.parsed.violations else answer.parsed
