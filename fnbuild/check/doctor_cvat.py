"""`fnbuild doctor cvat`: does what CVAT does, and says what would be missing, unreachable, misread.

A finding's area is `dashboard`, or the name of the function that it is about.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from fnbuild.check import cvat_model, reply, request
from fnbuild.check.cvat_calls import Calls, Reply
from fnbuild.check.cvat_missing import missing, state_of
from fnbuild.check.problems import Problem
from fnbuild.check.request import Picture, Request
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.platforms import Finding
from fnbuild.spec import labels
from fnbuild.spec.types import Function, Metadata, Raw

_FAILURE: Literal["failure"] = "failure"
_WARNING: Literal["warning"] = "warning"
_DASHBOARD = "dashboard"
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_REFUSALS = {
    401: (
        "asks for a token, and CVAT sends none",
        "give CVAT an address of its own: `fnbuild dashboard --open HOST:8070`",
    ),
    403: (
        "refuses CVAT's request",
        "give CVAT an address of its own: `fnbuild dashboard --open HOST:8070`",
    ),
    404: ("is no dashboard of Nuclio", "name the address of one: `--url http://HOST:8070`"),
    421: (
        "is not known by that name",
        "start it with `--allowed-host NAME`; CVAT's compose calls it nuclio",
    ),
}


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be examined: all functions without a `name`. `picture` is sent to each."""

    calls: Calls
    picture: Picture
    name: str = ""


def small_picture() -> Picture:
    """A picture to send when nobody gave one: a gradient of colours."""
    red = Image.linear_gradient("L").resize((320, 240))
    blue = Image.radial_gradient("L").resize((320, 240))
    out = io.BytesIO()
    Image.merge("RGB", (red, red.transpose(Image.Transpose.ROTATE_180), blue)).save(out, "JPEG")
    return request.upright(out.getvalue())


def examine(asked: Asked) -> Iterator[Finding]:
    """All findings, one by one as they are made."""
    try:
        answer = asked.calls.list()
    except UnavailableError as error:
        remedy = "start it: `fnbuild dashboard`; CVAT_NUCLIO_HOST says where CVAT looks for it"
        yield Finding(_DASHBOARD, "failure", error.message, remedy)
        return
    listed = yield from _listed(asked, answer)
    if listed is None:
        return
    shown = [one for one in listed if cvat_model.of_object(one).outcome == "shown"]
    names = {str(one["metadata"]["name"]) for one in shown}
    yield from missing(asked.calls, names, asked.name)
    for one in shown:
        if asked.name in ("", one["metadata"]["name"]):
            yield from _Examination(asked, one).findings()


def _listed(asked: Asked, answer: Reply) -> Generator[Finding, None, list[Any] | None]:
    """Findings about the list itself; gives its objects, None when CVAT shows none of them."""
    url = asked.calls.url
    if not answer.ok:
        what, remedy = _REFUSALS.get(answer.status, (f"answers {answer.status}", "see its log"))
        yield Finding(_DASHBOARD, "failure", f"{url} {what}: {answer.words}", remedy)
        return None
    try:
        found = answer.json
    except ValueError:
        found = None
    if not isinstance(found, dict):
        remedy = "name the address of a dashboard: `--url http://HOST:8070`"
        yield Finding(_DASHBOARD, "failure", f"{url} does not list functions by name", remedy)
        return None
    outcomes = set()
    for name, one in found.items():
        reading = cvat_model.of_object(one)
        outcomes.add(reading.outcome)
        if reading.outcome != "shown":
            state = _FAILURE if reading.outcome == "breaks" else _WARNING
            yield Finding(str(name), state, reading.words, reading.remedy)
    place = f"the project {asked.calls.project} of the namespace {asked.calls.namespace}"
    if "breaks" in outcomes:
        yield Finding(_DASHBOARD, "failure", f"CVAT shows no function of {place}")
    elif "shown" not in outcomes and not asked.name:
        remedy = f"`fnbuild deploy --path FOLDER --project-name {asked.calls.project}` brings one"
        yield Finding(_DASHBOARD, "failure", f"CVAT finds nothing to show in {place}", remedy)
    else:
        yield Finding(_DASHBOARD, "ok", f"{url} lists {len(found)} of {place}")
    return list(found.values())


class _Examination:
    """One function that CVAT shows."""

    def __init__(self, asked: Asked, shown: Raw):
        self._asked = asked
        self._name: str = shown["metadata"]["name"]
        annotations = shown["metadata"]["annotations"]
        self._function = Function(metadata=Metadata(name=self._name, annotations=annotations))
        self._kind = annotations["type"]
        self._reported: list[Problem] = []

    def findings(self) -> Iterator[Finding]:
        """What CVAT does before every call, then its two ways to call it."""
        for text, remedy in cvat_model.notices(self._function.metadata.annotations):
            yield self._finding("warning", text, remedy)
        status = yield from self._status()
        if status is None:
            return
        yield from self._way(
            "through the dashboard",
            lambda body: self._asked.calls.through_dashboard(self._name, body),
        )
        port = status.get("httpPort")
        if not isinstance(port, int) or not port:
            remedy = "publish a port, or let CVAT call it by CVAT_NUCLIO_INVOKE_METHOD=dashboard"
            yield self._finding("failure", "it has no port that CVAT could call directly", remedy)
            return
        place = f"directly at {self._asked.calls.direct_host}:{port}"
        yield from self._way(place, lambda body: self._asked.calls.directly(port, body))
        yield from self._reach(status)

    def _finding(self, state: Any, text: str, remedy: str = "") -> Finding:
        return Finding(self._name, state, text, remedy)

    def _status(self) -> Generator[Finding, None, Raw | None]:
        """Whether the function is found by its name and ready; gives its status."""
        try:
            answer = self._asked.calls.get(self._name)
            found = answer.json if answer.ok else {}
        except (FnbuildError, ValueError) as error:
            yield self._finding("failure", f"it cannot be got by its name: {error}")
            return None
        if not answer.ok:
            text = f"it is listed, and not found by its name: {answer.status} {answer.words}"
            yield self._finding("failure", text, "its name needs letters, digits, '_', '.' and '-'")
            return None
        status = found.get("status") or {}
        state = state_of(found)
        if state != "ready":
            why = f": {status['message'].splitlines()[0]}" if status.get("message") else ""
            text = f"CVAT shows it, although it is {state}{why}"
            yield self._finding("warning", text, f"`fnbuild logs {self._name}` says more")
        return status

    def _way(self, way: str, call: Callable[[bytes], Reply]) -> Iterator[Finding]:
        """A call of the kind that CVAT makes, and for a tracker the one that follows it."""
        states: tuple[Any, ...] = ()
        for _ in range(2 if self._kind == "tracker" else 1):
            sent = self._request(states)
            try:
                answer = call(sent.body)
            except UnavailableError as error:
                yield self._finding("failure", f"{way}: {error.message}", self._unreachable(way))
                return
            if not answer.ok:
                text = f"{way}: it answers {answer.status}: {answer.words}"
                yield self._finding("failure", text, f"`fnbuild logs {self._name}` says more")
                return
            known = labels.of(self._function)
            read = reply.read(self._kind, answer.body, known, sent.picture.size, sent)
            yield from self._read(way, answer, read)
            if read.violations:
                return
            states = read.states

    def _read(self, way: str, answer: Reply, read: reply.Reading) -> Iterator[Finding]:
        problems = [problem for problem in read.problems if problem not in self._reported]
        self._reported += problems
        if read.violations and not problems:
            text = f"{way}: CVAT misreads its reply in the same way"
            yield self._finding("failure", text, "`fnbuild invoke --image` shows it")
        for problem in problems:
            place = f"{problem.path}: " if problem.path else ""
            state = _FAILURE if problem.severity == "error" else _WARNING
            text = f"{way}: CVAT misreads its reply. {place}{problem.message}"
            yield self._finding(state, text, problem.hint or "`fnbuild invoke --image` shows it")
        if not read.violations:
            yield self._finding("ok", f"{way}: it answers in {1000 * answer.seconds:.0f} ms")

    def _request(self, states: tuple[Any, ...]) -> Request:
        """What CVAT would send: somebody's click in the middle, and a box around it."""
        picture, kind = self._asked.picture, self._kind
        width, height = picture.size
        box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
        if kind == "interactor":
            boxed = bool(self._function.metadata.annotations.get("startswith_box"))
            points = [(width // 2, height // 2)]
            return request.build(kind, picture, pos_points=points, boxes=[box] if boxed else [])
        if kind == "tracker":
            types = labels.tracked_types(self._function)
            return request.build(kind, picture, boxes=[box], shape_types=types, states=states)
        if kind == "reid":
            return request.build(kind, picture, boxes=[box], image1=picture, boxes1=[box])
        return request.build(kind, picture)

    def _unreachable(self, way: str) -> str:
        if way.startswith("directly"):
            return "name the machine that its port is on: `--direct-host HOST`"
        return "the dashboard has to reach the function: `fnbuild get functions -o wide`"

    def _reach(self, status: Raw) -> Iterator[Finding]:
        """Whether the port is open to containers too, as most people run CVAT in some."""
        urls = [str(one) for one in status.get("externalInvocationUrls") or []]
        hosts = {one.partition("://")[2] or one for one in urls}
        if urls and all(host.startswith(_LOOPBACK) for host in hosts):
            yield self._finding(
                "warning",
                "its port is open to this machine alone: a CVAT in containers does not reach it",
                "deploy it with spec.platform.attributes.listen `loopback,docker`, or let CVAT call"
                " through the dashboard by CVAT_NUCLIO_INVOKE_METHOD=dashboard",
            )
