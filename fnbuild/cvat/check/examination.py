"""Examine a function: send all requests of a check, and collect the findings."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fnbuild.cvat.check.comparison import find_difference, shapes_differ
from fnbuild.cvat.check.findings import CheckFinding
from fnbuild.cvat.check.pictures import EQUAL_PAIRS, CheckPicture, check_pictures
from fnbuild.cvat.check.probe import Answer, ExaminedCase, Probe, Subject, Target
from fnbuild.cvat.check.requests import (
    BadRequest,
    bad_requests,
    more_requests,
    threshold_request,
)
from fnbuild.cvat.check.tracking import check_states
from fnbuild.cvat.request import CvatRequest

_MAX_UNANSWERED = 3
_MIN_MESSAGE = 3


@dataclass(slots=True)
class CheckResult:
    """The result of a check."""

    name: str
    kind: str
    cases: list[ExaminedCase] = field(default_factory=list)
    findings: list[CheckFinding] = field(default_factory=list)

    def count(self, severity: str) -> int:
        return sum(finding.severity == severity for finding in self.findings)


def examine(
    subject: Subject,
    target: Target,
    progress: Callable[[str], object],
    own_pictures: Iterable[Path] = (),
    skipped: Sequence[str] = (),
) -> CheckResult:
    """Send all requests; stop early if the function does not answer any more."""
    probe = Probe(subject, target, progress)
    _Examination(probe).run(check_pictures(own_pictures, skipped))
    name = subject.function.metadata.name
    return CheckResult(name, subject.kind, probe.cases, probe.collector.findings)


@dataclass(slots=True)
class _Examination:
    probe: Probe
    answers: dict[str, Answer] = field(default_factory=dict)
    """The replies to the pictures by their names."""

    def run(self, pictures: Iterable[CheckPicture]) -> None:
        first: CheckPicture | None = None
        for picture in pictures:
            first = first or picture
            self._check_picture(picture)
            if self.probe.unanswered >= _MAX_UNANSWERED:
                return
        if first is not None:
            self._check_with(first)

    def _check_with(self, picture: CheckPicture) -> None:
        """Send the requests that all have the same picture."""
        kind, sample = self.probe.subject.kind, self.probe.sample(picture)
        answer = self.answers.get(picture.name)
        is_repeatable = self._check_repetition("repeatable", "the same again", sample, answer)
        if is_repeatable:
            self._check_equal_pictures()
        if kind == "detector":
            self._check_threshold(picture)
        for name, request in more_requests(kind, self.probe.subject.function, picture.image):
            self.probe.send_valid(name, request, picture.sizes)
        if kind == "tracker" and answer is not None:
            check_states(self.probe, picture, answer.parsed.states)
        for bad in bad_requests(sample):
            self._check_bad(bad)
            if self.probe.unanswered >= _MAX_UNANSWERED:
                return
        if is_repeatable:
            self._check_repetition("independent", "the first again", sample, answer)

    def _check_picture(self, picture: CheckPicture) -> None:
        answer = self.probe.send_valid(picture.name, self.probe.sample(picture), picture.sizes)
        if answer is None:
            return
        self.answers[picture.name] = answer
        if self.probe.subject.kind == "tracker" and answer.parsed.states:
            self.probe.follow(f"{picture.name}, next frame", picture, answer.parsed.states)

    def _check_repetition(
        self, rule: str, name: str, request: CvatRequest, first: Answer | None
    ) -> bool:
        """Send a request again; True if the reply is the same."""
        sizes = [request.image.size]
        answer = self.probe.send_valid(name, request, sizes) if first else None
        if first is None or answer is None:
            return False
        path = find_difference(first.reply, answer.reply)
        if path is not None:
            message = "the reply to the same request differs here"
            self.probe.collector.add(name, rule, path, message)
        return path is None

    def _check_equal_pictures(self) -> None:
        for name, twin in EQUAL_PAIRS:
            if name not in self.answers or twin not in self.answers:
                continue
            difference = shapes_differ(self.answers[name].parsed, self.answers[twin].parsed)
            if difference is not None:
                message = f"the pictures {name} and {twin} have equal pixels, but {difference}"
                self.probe.collector.add(name, "picture-mode", "", message)

    def _check_threshold(self, picture: CheckPicture) -> None:
        """Ask again with a threshold above all confidences that the function has returned."""
        confidences = [
            shape.confidence
            for answer in self.answers.values()
            for shape in answer.parsed.shapes
            if shape.confidence is not None and 0 <= shape.confidence < 1
        ]
        if not confidences:
            return
        name, threshold = "a high threshold", round((max(confidences) + 1) / 2, 4)
        request = threshold_request(picture.image, threshold)
        answer = self.probe.send_valid(name, request, picture.sizes)
        for shape in answer.parsed.shapes if answer else ():
            if shape.confidence is not None and shape.confidence < threshold - 1e-3:
                message = f"{shape.confidence:g} is below the threshold {threshold:g}"
                path = f"[{shape.index}].confidence"
                self.probe.collector.add(name, "threshold", path, message)
                return

    def _check_bad(self, bad: BadRequest) -> None:
        reply = self.probe.send(bad.name, bad.body)
        if reply is None:
            return
        answer = f"{bad.name}: it answers {reply.status}"
        text, add = reply.error_message, self.probe.collector.add
        if reply.status >= 500:
            add(bad.name, "bad-request-status", "", f"{answer}: {text or '(no body)'}")
        elif reply.ok and bad.must_be_refused:
            add(bad.name, "bad-request-accepted", "", f"{answer}: {text}")
        elif not reply.ok and len(text) < _MIN_MESSAGE:
            add(bad.name, "bad-request-message", "", f"{answer} without a message")
