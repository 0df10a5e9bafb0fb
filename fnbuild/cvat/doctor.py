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
from fnbuild.cvat.check.requests import sample_request
from fnbuild.cvat.client import CvatClient, TimedResponse
from fnbuild.cvat.reply_report import ReplyDiagnostic
from fnbuild.cvat.request import EncodedImage
from fnbuild.errors import FnbuildError, UnavailableError
from fnbuild.function import labels
from fnbuild.function.suggestions import closest
from fnbuild.function.types import Function, Metadata, Raw
from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.platforms import Finding

_FindingState = Literal["ok", "warning", "failure"]
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
    404: ("is not a dashboard of Nuclio", "name the address of one: `--url http://HOST:8070`"),
    421: (
        "is not known by that name",
        "start it with `--allowed-host NAME`; CVAT's compose calls it nuclio",
    ),
}


@dataclass(frozen=True, slots=True)
class CvatDoctorOptions:
    """Options of the examination: without a `name`, all functions. `image` is sent to each."""

    client: CvatClient
    image: EncodedImage
    name: str = ""


def sample_image() -> EncodedImage:
    """Return an image with a gradient of colours, to send if the user gave none."""
    red = Image.linear_gradient("L").resize((320, 240))
    blue = Image.radial_gradient("L").resize((320, 240))
    out = io.BytesIO()
    Image.merge("RGB", (red, red.transpose(Image.Transpose.ROTATE_180), blue)).save(out, "JPEG")
    return request.upright_image(out.getvalue())


def examine_cvat(options: CvatDoctorOptions) -> Iterator[Finding]:
    """Yield all findings as they are made."""
    try:
        response = options.client.list_functions()
    except UnavailableError as error:
        remedy = "start it: `fnbuild dashboard`; CVAT_NUCLIO_HOST sets the host that CVAT calls"
        yield Finding(_DASHBOARD, "failure", error.message, remedy)
        return
    functions = yield from _check_list(options, response)
    if functions is None:
        return
    listed = [
        function
        for function in functions
        if list_rules.verdict_of_object(function).outcome == "shown"
    ]
    names = {str(function["metadata"]["name"]) for function in listed}
    yield from find_missing_functions(options.client, names, options.name)
    for function in listed:
        if options.name in ("", function["metadata"]["name"]):
            yield from _FunctionExamination(options, function).findings()


def _check_list(
    options: CvatDoctorOptions, response: TimedResponse
) -> Generator[Finding, None, list[Any] | None]:
    """Yield findings about the list; return its objects, or None if there is no valid list."""
    url = options.client.url
    if not response.ok:
        what, remedy = _REFUSALS.get(response.status, (f"answers {response.status}", "see its log"))
        yield Finding(_DASHBOARD, "failure", f"{url} {what}: {response.error_message}", remedy)
        return None
    try:
        functions = response.json
    except ValueError:
        functions = None
    if not isinstance(functions, dict):
        remedy = "name the address of a dashboard: `--url http://HOST:8070`"
        yield Finding(_DASHBOARD, "failure", f"{url} does not list functions by name", remedy)
        return None
    outcomes = set()
    for name, function in functions.items():
        verdict = list_rules.verdict_of_object(function)
        outcomes.add(verdict.outcome)
        if verdict.outcome != "shown":
            state: _FindingState = "failure" if verdict.outcome == "breaks" else "warning"
            yield Finding(str(name), state, verdict.message, verdict.remedy)
    place = f"the project {options.client.project} of the namespace {options.client.namespace}"
    if "breaks" in outcomes:
        yield Finding(_DASHBOARD, "failure", f"CVAT shows no function of {place}")
    elif "shown" not in outcomes and not options.name:
        project = options.client.project
        remedy = f"`fnbuild deploy --path FOLDER --project-name {project}` brings one"
        yield Finding(_DASHBOARD, "failure", f"CVAT finds nothing to show in {place}", remedy)
    else:
        yield Finding(_DASHBOARD, "ok", f"{url} lists {len(functions)} of {place}")
    return list(functions.values())


class _FunctionExamination:
    """Examines one function that CVAT shows."""

    def __init__(self, options: CvatDoctorOptions, shown: Raw):
        self._options = options
        self._name: str = shown["metadata"]["name"]
        annotations = shown["metadata"]["annotations"]
        self._function = Function(metadata=Metadata(name=self._name, annotations=annotations))
        self._kind = annotations["type"]
        self._reported: list[ReplyDiagnostic] = []

    def findings(self) -> Iterator[Finding]:
        """Check the function's state as CVAT does, and call it through both of CVAT's routes."""
        for text, remedy in list_rules.misread_annotations(self._function.metadata.annotations):
            yield self._finding("warning", text, remedy)
        status = yield from self._check_status()
        if status is None:
            return
        yield from self._check_invocation(
            "through the dashboard",
            lambda body: self._options.client.invoke_through_dashboard(self._name, body),
        )
        port = status.get("httpPort")
        if not isinstance(port, int) or not port:
            remedy = "publish a port, or let CVAT call it by CVAT_NUCLIO_INVOKE_METHOD=dashboard"
            yield self._finding("failure", "it has no port that CVAT could call directly", remedy)
            return
        place = f"directly at {self._options.client.direct_host}:{port}"
        yield from self._check_invocation(
            place, lambda body: self._options.client.invoke_directly(port, body)
        )
        yield from self._check_port(status)

    def _finding(self, state: _FindingState, text: str, remedy: str = "") -> Finding:
        return Finding(self._name, state, text, remedy)

    def _check_status(self) -> Generator[Finding, None, Raw | None]:
        """Check that the function is found by its name and is ready; return its status."""
        try:
            response = self._options.client.get_function(self._name)
            function = response.json if response.ok else {}
        except (FnbuildError, ValueError) as error:
            yield self._finding("failure", f"it cannot be got by its name: {error}")
            return None
        if not response.ok:
            error_message = f"{response.status} {response.error_message}"
            text = f"it is listed, and not found by its name: {error_message}"
            yield self._finding("failure", text, "its name needs letters, digits, '_', '.' and '-'")
            return None
        status = function.get("status") or {}
        state = function_state(function)
        if state != "ready":
            why = f": {status['message'].splitlines()[0]}" if status.get("message") else ""
            text = f"CVAT shows it, although it is {state}{why}"
            yield self._finding("warning", text, f"`fnbuild logs {self._name}` says more")
        return status

    def _check_invocation(
        self, route: str, call: Callable[[bytes], TimedResponse]
    ) -> Iterator[Finding]:
        """Make a call of the function's kind, and for a tracker the next call with its states."""
        states: tuple[Any, ...] = ()
        for _ in range(2 if self._kind == "tracker" else 1):
            sent = sample_request(self._kind, self._function, self._options.image, states)
            try:
                response = call(sent.body)
            except UnavailableError as error:
                yield self._finding(
                    "failure", f"{route}: {error.message}", self._unreachable(route)
                )
                return
            if not response.ok:
                text = f"{route}: it answers {response.status}: {response.error_message}"
                yield self._finding("failure", text, f"`fnbuild logs {self._name}` says more")
                return
            function_labels = labels.function_labels(self._function)
            reply = replies.read_reply(
                self._kind, response.body, function_labels, sent.image.size, sent
            )
            yield from self._check_reply(route, response, reply)
            if reply.violations:
                return
            states = reply.states

    def _check_reply(
        self, route: str, response: TimedResponse, reply: replies.ParsedReply
    ) -> Iterator[Finding]:
        problems = [problem for problem in reply.diagnostics if problem not in self._reported]
        self._reported += problems
        if reply.violations and not problems:
            text = f"{route}: CVAT misreads its reply in the same way"
            yield self._finding("failure", text, "`fnbuild invoke --image` shows it")
        for problem in problems:
            place = f"{problem.path}: " if problem.path else ""
            state: _FindingState = "failure" if problem.severity == "error" else "warning"
            text = f"{route}: CVAT misreads its reply. {place}{problem.message}"
            yield self._finding(state, text, problem.hint or "`fnbuild invoke --image` shows it")
        if not reply.violations:
            yield self._finding("ok", f"{route}: it answers in {1000 * response.seconds:.0f} ms")

    def _unreachable(self, route: str) -> str:
        if route.startswith("directly"):
            return "name the machine that its port is on: `--direct-host HOST`"
        return "the dashboard has to reach the function: `fnbuild get functions -o wide`"

    def _check_port(self, status: Raw) -> Iterator[Finding]:
        """Warn if containers cannot reach the port, since CVAT mostly runs in containers."""
        urls = [str(url) for url in status.get("externalInvocationUrls") or []]
        hosts = {url.partition("://")[2] or url for url in urls}
        if urls and all(host.startswith(_LOOPBACK) for host in hosts):
            yield self._finding(
                "warning",
                "its port is open to this machine alone: a CVAT in containers does not reach it",
                "deploy it with spec.platform.attributes.listen `loopback,docker`, or let CVAT call"
                " through the dashboard by CVAT_NUCLIO_INVOKE_METHOD=dashboard",
            )


def find_missing_functions(client: CvatClient, shown: set[str], name: str) -> Iterator[Finding]:
    """Yield a finding for each function that is missing in CVAT's list.

    Healthy functions in another project share one finding. With `name`, only that function is
    checked, and each finding is a failure.
    """
    try:
        functions = client.list_all_functions().json
    except (FnbuildError, ValueError):
        return
    functions = functions if isinstance(functions, dict) else {}
    in_other_projects: dict[str, list[str]] = {}
    for function_name, function in functions.items():
        if function_name in shown or name not in ("", function_name):
            continue
        if not isinstance(function, dict):
            continue
        if not name and _is_only_in_other_project(client, function):
            in_other_projects.setdefault(_project_of(function), []).append(function_name)
        else:
            yield from _explain_missing(client, function_name, function, requested=bool(name))
    for project, names in in_other_projects.items():
        yield _other_project_finding("dashboard", "warning", client, project, names)
    if name and name not in functions:
        suggestion = closest(name, functions)
        remedy = (
            f'did you mean "{suggestion}"?' if suggestion else "`fnbuild get functions` lists them"
        )
        text = f"there is no function of that name in the namespace {client.namespace}"
        yield Finding(name, "failure", text, remedy)


def function_state(function: Raw) -> str:
    """Return the state of a function; Nuclio's state of a disabled function is `ready`, too."""
    status = function.get("status") or {}
    if status.get("state") == "ready" and (function.get("spec") or {}).get("disable"):
        return "standby"
    return str(status.get("detailedState") or status.get("state"))


def _explain_missing(
    client: CvatClient, name: str, function: Raw, *, requested: bool
) -> Iterator[Finding]:
    project, state = _project_of(function), function_state(function)
    level: _FindingState = "failure" if requested else "warning"
    verdict = list_rules.verdict_of_object(function)
    if aside := _set_aside_reason(function):
        yield Finding(name, "failure", f"it is left out of CVAT's list. {aside}", verdict.remedy)
    elif project != client.project and _has_type(function) and state != "ready":
        text = f"it is {state}, and in the project {project}, where CVAT does not look"
        remedy = f"`fnbuild logs {name}` says more; {_project_remedy(client)}, after the repair"
        yield Finding(name, level, text, remedy)
    elif project != client.project and requested:
        yield _other_project_finding(name, level, client, project, [name])
    elif project == client.project and not _has_type(function):
        yield Finding(name, level if requested else "skipped", verdict.message, verdict.remedy)


def _other_project_finding(
    area: str, state: _FindingState, client: CvatClient, project: str, names: list[str]
) -> Finding:
    text = f"in the project {project}, and CVAT asks for {client.project}: {', '.join(names)}"
    return Finding(area, state, text, _project_remedy(client))


def _project_remedy(client: CvatClient) -> str:
    label = f"{PROJECT_LABEL}: {client.project}"
    return (
        f"deploy with `--project-name {client.project}`, or give the function the label"
        f" `{label}` in its configuration on the page"
    )


def _is_only_in_other_project(client: CvatClient, function: Raw) -> bool:
    """Return True if the project is the only reason why CVAT does not list a function."""
    healthy = not _set_aside_reason(function) and function_state(function) == "ready"
    return healthy and _has_type(function) and _project_of(function) != client.project


def _set_aside_reason(function: Raw) -> str:
    return str((function.get("status") or {}).get("setAside", ""))


def _project_of(function: Raw) -> str:
    project_labels = (function.get("metadata") or {}).get("labels") or {}
    return str(project_labels.get(PROJECT_LABEL, DEFAULT_PROJECT))


def _has_type(function: Raw) -> bool:
    return "type" in ((function.get("metadata") or {}).get("annotations") or {})
