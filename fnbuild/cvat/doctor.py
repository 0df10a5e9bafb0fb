"""`fnbuild doctor cvat`: make the calls that CVAT makes, and report what fails or is misread.

The area of a finding is `dashboard`, or the name of the function that it is about.
"""

from __future__ import annotations

import io
from collections.abc import Callable, Generator, Iterator
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image

from fnbuild.cvat import list_rules, replies, request
from fnbuild.cvat.client import CvatClient, HttpReply
from fnbuild.cvat.reply_report import ReplyDiagnostic
from fnbuild.cvat.request import CvatRequest, EncodedImage
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.function import labels
from fnbuild.function.suggestions import closest
from fnbuild.function.types import Function, Metadata, Raw
from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.platforms import Finding

_FindingState = Literal["failure", "warning"]


def find_missing_functions(calls: CvatClient, shown: set[str], name: str) -> Iterator[Finding]:
    """A finding for each function that CVAT is not shown; those that are well and only in another
    project share one. With `name` that function alone, and each finding is a failure."""
    try:
        everything = calls.list_all_functions().json
    except (FnbuildError, ValueError):
        return
    everything = everything if isinstance(everything, dict) else {}
    elsewhere: dict[str, list[str]] = {}
    for known, one in everything.items():
        if known in shown or name not in ("", known) or not isinstance(one, dict):
            continue
        if not name and _is_only_in_other_project(calls, one):
            elsewhere.setdefault(_project_of(one), []).append(known)
        else:
            yield from _explain_missing(calls, known, one, asked=bool(name))
    for project, names in elsewhere.items():
        yield _other_project_finding("dashboard", "warning", calls, project, names)
    if name and name not in everything:
        close = closest(name, everything)
        remedy = f'did you mean "{close}"?' if close else "`fnbuild get functions` lists them"
        text = f"there is no function of that name in the namespace {calls.namespace}"
        yield Finding(name, "failure", text, remedy)


def function_state(function: Raw) -> str:
    """Nuclio says `ready` of a function that is disabled, too."""
    status = function.get("status") or {}
    if status.get("state") == "ready" and (function.get("spec") or {}).get("disable"):
        return "standby"
    return str(status.get("detailedState") or status.get("state"))


def _explain_missing(calls: CvatClient, name: str, one: Raw, *, asked: bool) -> Iterator[Finding]:
    project, state, level = _project_of(one), function_state(one), _finding_state(asked=asked)
    reading = list_rules.verdict_of_object(one)
    if aside := _set_aside_reason(one):
        yield Finding(name, "failure", f"it is left out of CVAT's list. {aside}", reading.remedy)
    elif project != calls.project and _has_type(one) and state != "ready":
        text = f"it is {state}, and in the project {project}, where CVAT does not look"
        remedy = f"`fnbuild logs {name}` says more; {_project_remedy(calls)}, when it is mended"
        yield Finding(name, level, text, remedy)
    elif project != calls.project and asked:
        yield _other_project_finding(name, level, calls, project, [name])
    elif project == calls.project and not _has_type(one):
        yield Finding(name, level if asked else "skipped", reading.words, reading.remedy)


def _finding_state(*, asked: bool) -> _FindingState:
    return "failure" if asked else "warning"


def _other_project_finding(
    area: str, state: _FindingState, calls: CvatClient, project: str, names: list[str]
) -> Finding:
    text = f"in the project {project}, and CVAT asks for {calls.project}: {', '.join(names)}"
    return Finding(area, state, text, _project_remedy(calls))


def _project_remedy(calls: CvatClient) -> str:
    label = f"{PROJECT_LABEL}: {calls.project}"
    return (
        f"deploy with `--project-name {calls.project}`, or give the function the label"
        f" `{label}` in its configuration on the page"
    )


def _is_only_in_other_project(calls: CvatClient, one: Raw) -> bool:
    """Whether a function is well, and CVAT's but for its project."""
    well = not _set_aside_reason(one) and function_state(one) == "ready"
    return well and _has_type(one) and _project_of(one) != calls.project


def _set_aside_reason(function: Raw) -> str:
    return str((function.get("status") or {}).get("setAside", ""))


def _project_of(function: Raw) -> str:
    named = (function.get("metadata") or {}).get("labels") or {}
    return str(named.get(PROJECT_LABEL, DEFAULT_PROJECT))


def _has_type(function: Raw) -> bool:
    return "type" in ((function.get("metadata") or {}).get("annotations") or {})


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
class CvatDoctorOptions:
    """What is to be examined: all functions without a `name`. `picture` is sent to each."""

    calls: CvatClient
    picture: EncodedImage
    name: str = ""


def sample_image() -> EncodedImage:
    """A picture to send when nobody gave one: a gradient of colours."""
    red = Image.linear_gradient("L").resize((320, 240))
    blue = Image.radial_gradient("L").resize((320, 240))
    out = io.BytesIO()
    Image.merge("RGB", (red, red.transpose(Image.Transpose.ROTATE_180), blue)).save(out, "JPEG")
    return request.upright_image(out.getvalue())


def examine_cvat(asked: CvatDoctorOptions) -> Iterator[Finding]:
    """All findings, one by one as they are made."""
    try:
        answer = asked.calls.list()
    except UnavailableError as error:
        remedy = "start it: `fnbuild dashboard`; CVAT_NUCLIO_HOST says where CVAT looks for it"
        yield Finding(_DASHBOARD, "failure", error.message, remedy)
        return
    listed = yield from _check_list(asked, answer)
    if listed is None:
        return
    shown = [one for one in listed if list_rules.verdict_of_object(one).outcome == "shown"]
    names = {str(one["metadata"]["name"]) for one in shown}
    yield from find_missing_functions(asked.calls, names, asked.name)
    for one in shown:
        if asked.name in ("", one["metadata"]["name"]):
            yield from _FunctionExamination(asked, one).findings()


def _check_list(
    asked: CvatDoctorOptions, answer: HttpReply
) -> Generator[Finding, None, list[Any] | None]:
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
        reading = list_rules.verdict_of_object(one)
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


class _FunctionExamination:
    """One function that CVAT shows."""

    def __init__(self, asked: CvatDoctorOptions, shown: Raw):
        self._asked = asked
        self._name: str = shown["metadata"]["name"]
        annotations = shown["metadata"]["annotations"]
        self._function = Function(metadata=Metadata(name=self._name, annotations=annotations))
        self._kind = annotations["type"]
        self._reported: list[ReplyDiagnostic] = []

    def findings(self) -> Iterator[Finding]:
        """What CVAT does before every call, then its two ways to call it."""
        for text, remedy in list_rules.misread_annotations(self._function.metadata.annotations):
            yield self._finding("warning", text, remedy)
        status = yield from self._status()
        if status is None:
            return
        yield from self._check_invocation(
            "through the dashboard",
            lambda body: self._asked.calls.invoke_through_dashboard(self._name, body),
        )
        port = status.get("httpPort")
        if not isinstance(port, int) or not port:
            remedy = "publish a port, or let CVAT call it by CVAT_NUCLIO_INVOKE_METHOD=dashboard"
            yield self._finding("failure", "it has no port that CVAT could call directly", remedy)
            return
        place = f"directly at {self._asked.calls.direct_host}:{port}"
        yield from self._check_invocation(
            place, lambda body: self._asked.calls.invoke_directly(port, body)
        )
        yield from self._check_port(status)

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
        state = function_state(found)
        if state != "ready":
            why = f": {status['message'].splitlines()[0]}" if status.get("message") else ""
            text = f"CVAT shows it, although it is {state}{why}"
            yield self._finding("warning", text, f"`fnbuild logs {self._name}` says more")
        return status

    def _check_invocation(self, way: str, call: Callable[[bytes], HttpReply]) -> Iterator[Finding]:
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
            known = labels.function_labels(self._function)
            read = replies.read_reply(self._kind, answer.body, known, sent.picture.size, sent)
            yield from self._read(way, answer, read)
            if read.violations:
                return
            states = read.states

    def _read(self, way: str, answer: HttpReply, read: replies.ParsedReply) -> Iterator[Finding]:
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

    def _request(self, states: tuple[Any, ...]) -> CvatRequest:
        """What CVAT would send: somebody's click in the middle, and a box around it."""
        picture, kind = self._asked.picture, self._kind
        width, height = picture.size
        box = (width // 4, height // 4, 3 * width // 4, 3 * height // 4)
        if kind == "interactor":
            boxed = bool(self._function.metadata.annotations.get("startswith_box"))
            points = [(width // 2, height // 2)]
            return request.build_request(
                kind, picture, pos_points=points, boxes=[box] if boxed else []
            )
        if kind == "tracker":
            types = labels.tracked_shape_types(self._function)
            return request.build_request(
                kind, picture, boxes=[box], shape_types=types, states=states
            )
        if kind == "reid":
            return request.build_request(kind, picture, boxes=[box], image1=picture, boxes1=[box])
        return request.build_request(kind, picture)

    def _unreachable(self, way: str) -> str:
        if way.startswith("directly"):
            return "name the machine that its port is on: `--direct-host HOST`"
        return "the dashboard has to reach the function: `fnbuild get functions -o wide`"

    def _check_port(self, status: Raw) -> Iterator[Finding]:
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
