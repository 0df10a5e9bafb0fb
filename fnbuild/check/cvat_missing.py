"""Why functions that a dashboard has are not in the list that CVAT gets of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from fnbuild.check import cvat_model
from fnbuild.check.cvat_calls import Calls
from fnbuild.deploy.projects import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.errors import FnbuildError
from fnbuild.platforms import Finding
from fnbuild.spec.hints import closest
from fnbuild.spec.types import Raw

_State = Literal["failure", "warning"]


def missing(calls: Calls, shown: set[str], name: str) -> Iterator[Finding]:
    """A finding for each function that CVAT is not shown; those that are well and only in another
    project share one. With `name` that function alone, and each finding is a failure."""
    try:
        everything = calls.everything().json
    except (FnbuildError, ValueError):
        return
    everything = everything if isinstance(everything, dict) else {}
    elsewhere: dict[str, list[str]] = {}
    for known, one in everything.items():
        if known in shown or name not in ("", known) or not isinstance(one, dict):
            continue
        if not name and _only_elsewhere(calls, one):
            elsewhere.setdefault(_project(one), []).append(known)
        else:
            yield from _why(calls, known, one, asked=bool(name))
    for project, names in elsewhere.items():
        yield _elsewhere("dashboard", "warning", calls, project, names)
    if name and name not in everything:
        close = closest(name, everything)
        remedy = f'did you mean "{close}"?' if close else "`fnbuild get functions` lists them"
        text = f"there is no function of that name in the namespace {calls.namespace}"
        yield Finding(name, "failure", text, remedy)


def state_of(function: Raw) -> str:
    """Nuclio says `ready` of a function that is disabled, too."""
    status = function.get("status") or {}
    if status.get("state") == "ready" and (function.get("spec") or {}).get("disable"):
        return "standby"
    return str(status.get("detailedState") or status.get("state"))


def _why(calls: Calls, name: str, one: Raw, *, asked: bool) -> Iterator[Finding]:
    project, state, level = _project(one), state_of(one), _level(asked=asked)
    reading = cvat_model.of_object(one)
    if aside := _set_aside(one):
        yield Finding(name, "failure", f"it is left out of CVAT's list. {aside}", reading.remedy)
    elif project != calls.project and _has_type(one) and state != "ready":
        text = f"it is {state}, and in the project {project}, where CVAT does not look"
        remedy = f"`fnbuild logs {name}` says more; {_remedy(calls)}, when it is mended"
        yield Finding(name, level, text, remedy)
    elif project != calls.project and asked:
        yield _elsewhere(name, level, calls, project, [name])
    elif project == calls.project and not _has_type(one):
        yield Finding(name, level if asked else "skipped", reading.words, reading.remedy)


def _level(*, asked: bool) -> _State:
    return "failure" if asked else "warning"


def _elsewhere(area: str, state: _State, calls: Calls, project: str, names: list[str]) -> Finding:
    text = f"in the project {project}, and CVAT asks for {calls.project}: {', '.join(names)}"
    return Finding(area, state, text, _remedy(calls))


def _remedy(calls: Calls) -> str:
    label = f"{PROJECT_LABEL}: {calls.project}"
    return (
        f"deploy with `--project-name {calls.project}`, or give the function the label"
        f" `{label}` in its configuration on the page"
    )


def _only_elsewhere(calls: Calls, one: Raw) -> bool:
    """Whether a function is well, and CVAT's but for its project."""
    well = not _set_aside(one) and state_of(one) == "ready"
    return well and _has_type(one) and _project(one) != calls.project


def _set_aside(function: Raw) -> str:
    return str((function.get("status") or {}).get("setAside", ""))


def _project(function: Raw) -> str:
    named = (function.get("metadata") or {}).get("labels") or {}
    return str(named.get(PROJECT_LABEL, DEFAULT_PROJECT))


def _has_type(function: Raw) -> bool:
    return "type" in ((function.get("metadata") or {}).get("annotations") or {})
