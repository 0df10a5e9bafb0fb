"""A dashboard is killed at any time of a deploy, and the next one restores a correct state."""

from __future__ import annotations

import random
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.calls import WAIT, answering, operation, status
from tests.dashboard.conftest import Dashboard, end_functions, new_data_dir, running
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

ROUNDS = 10
FUNCTIONS = ("first", "second", "third")
LONGEST = 2.0
"""Seconds: about what three deploys take."""


def answer_of(dashboard: Dashboard, name: str) -> str | None:
    """Return the function's reply; None if nothing serves."""
    headers = {"x-nuclio-function-name": name}
    answer = dashboard.request("POST", "/api/function_invocations", headers=headers)
    return answer.text if answer.status == 200 else None


def is_over(dashboard: Dashboard, name: str) -> bool:
    return operation(dashboard, name)["state"] in ("done", "failed")


def settled(dashboard: Dashboard, name: str) -> dict[str, Any] | None:
    """Return the function once no operation is running; None if there is none."""

    def quiet() -> bool:
        answer = dashboard.request("GET", f"/api/functions/{name}")
        return answer.status == 404 or answer.json["status"]["state"] != "building"

    until(quiet, f"{name} is settled")
    answer = dashboard.request("GET", f"/api/functions/{name}")
    object_: dict[str, Any] | None = answer.json if answer.status == 200 else None
    return object_


def test_the_state_is_correct_whenever_the_dashboard_is_killed(
    tmp_path: Path, fetched: Path
) -> None:
    """Each round kills a dashboard at a random moment of three deploys; the next one reads the
    remaining state, and continues deploying."""
    place = new_data_dir(tmp_path, fetched)
    chance = random.Random(20261120)
    before: dict[str, set[str | None]] = {name: {None} for name in FUNCTIONS}
    ends: list[str] = []
    try:
        for round_ in range(ROUNDS):
            with running(place, "--show", "process") as dashboard:
                ends += check(dashboard, before, round_ - 1)
                for name in FUNCTIONS:
                    text = f"{name} of round {round_}"
                    answer = dashboard.request("PUT", "/api/functions", json=answering(name, text))
                    assert answer.status == 202, answer.text
                    before[name].add(text)
                if round_ % 5 == 4:  # some deploys end, however long they take on this machine
                    until(partial(is_over, dashboard, FUNCTIONS[0]), "one is over")
                else:
                    time.sleep(chance.uniform(0, LONGEST))
                dashboard.kill()
        with running(place, "--show", "process") as dashboard:
            ends += check(dashboard, before, ROUNDS - 1)
            check_the_next_deploys(dashboard)
            check_nothing_is_left(place)
    finally:
        end_functions(place)
    assert {"done", "failed"} <= set(ends), "none was killed in the middle, or all of them were"


def check(dashboard: Dashboard, before: dict[str, set[str | None]], round_: int) -> list[str]:
    """Check that every function serves old or new code and that its state is correct; return the
    results of the changes in which the previous dashboard was killed.
    """
    ends = []
    for name, texts in before.items():
        settled(dashboard, name)
        change = dashboard.request("GET", f"/api/functions/{name}/operation")
        if change.status == 200:
            assert change.json["state"] in ("done", "failed")
            ends.append(change.json["state"])
        answers: list[str | None] = []

        def agrees(name: str = name, answers: list[str | None] = answers) -> bool:
            answers.append(answer_of(dashboard, name))
            return matches_status(dashboard, name, serves=answers[-1] is not None)

        # It may still start a requested function between two reads.
        until(agrees, f"the state of {name} is correct")
        answer = answers[-1]
        assert answer in texts, f"{name} answers {answer!r}, which is none of {texts}"
        # The supervisor keeps running, and may still start what the dashboard has requested.
        texts.intersection_update({answer, f"{name} of round {round_}"})
    return ends


def matches_status(dashboard: Dashboard, name: str, *, serves: bool) -> bool:
    """Return True if the status of a function matches whether it serves."""
    settled_function = settled(dashboard, name)
    listed = dashboard.request("GET", "/api/functions").json
    if settled_function is None or not serves:
        return not serves and (name in listed) == (settled_function is not None)
    status = settled_function["status"]
    fits = status["state"] == "ready" or "goes on serving" in status["message"]
    return name in listed and fits and status["replicas"]["available"] == 1


def check_the_next_deploys(dashboard: Dashboard) -> None:
    for name in FUNCTIONS:
        body = answering(name, f"{name} at last")
        answer = dashboard.request("PUT", "/api/functions", json=body, headers=WAIT)
        assert answer.status == 202, answer.text
        assert operation(dashboard, name)["state"] == "done", operation(dashboard, name)
        assert status(dashboard, name)["state"] == "ready"
        until(lambda name=name: answer_of(dashboard, name) == f"{name} at last", "its answer")


def check_nothing_is_left(place: Path) -> None:
    """Check that one dashboard is registered and that no temporary code is left."""
    assert len(list((place / "dashboards").glob("*.lock"))) == 1
    (folder,) = (place / "dashboards").glob("*.tmp")
    assert list(folder.iterdir()) == []
    assert list((place / "staging").iterdir()) == []
    for name in FUNCTIONS:
        revisions = place / "functions" / "nuclio" / name / "revisions"
        kept = [path for path in revisions.iterdir() if not path.name.isdigit()]
        assert kept == []
