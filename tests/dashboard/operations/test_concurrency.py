"""Two dashboards and several command lines use one data directory at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.dashboard.calls import WAIT, answering, invoked
from tests.dashboard.conftest import (
    Dashboard,
    end_functions,
    new_data_dir,
    running,
    write_function,
)
from tests.dashboard.waiting import until

pytestmark = pytest.mark.system

REFUSED = (409, 412)
"""Statuses of a second request: the object exists, or another change is in progress."""

_CODE = "def handler(context, event):\n    return {text!r}\n"

Pair = tuple[Dashboard, Dashboard]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, fetched: Path) -> Iterator[Pair]:
    """Two dashboards with one data directory."""
    place = new_data_dir(tmp_path_factory.mktemp("together"), fetched)
    with (
        running(place, "--show", "process") as first,
        running(place, "--show", "process") as second,
    ):
        yield first, second
    end_functions(place)


def shown(dashboard: Dashboard) -> dict[str, tuple[str, int, int]]:
    """Return state, port and revision of each function in a list."""
    answer = dashboard.request("GET", "/api/functions", token=False)
    assert answer.status == 200, answer.text
    return {
        name: (
            object_["status"]["state"],
            object_["status"]["httpPort"],
            object_["status"]["revision"],
        )
        for name, object_ in answer.json.items()
    }


def listed(dashboard: Dashboard) -> set[str]:
    """Return the functions as the command line lists them."""
    rows = dashboard.cli("get", "functions", check=False).stdout.splitlines()
    return {row.split("|")[1].strip() for row in rows if row.startswith("nuclio")}


def settled(pair: Pair) -> dict[str, tuple[str, int, int]]:
    """Return the list of both dashboards once no operation is running."""
    first, second = pair

    def calm() -> bool:
        return all(state != "building" for state, _, _ in shown(first).values())

    until(calm, "no operation is running", 180)
    until(lambda: shown(first) == shown(second), "both show the same")
    return shown(first)


@contextmanager
def watching(pair: Pair) -> Iterator[None]:
    """Request lists continuously, and check that all of them are valid."""
    over = threading.Event()
    wrong: list[str] = []

    def look(dashboard: Dashboard) -> None:
        while not over.wait(0.05):
            for path in ("/api/functions", "/api/projects", "/api/audit"):
                answer = dashboard.request("GET", path)
                if answer.status != 200:
                    wrong.append(f"{path}: {answer.status} {answer.text}")

    threads = [threading.Thread(target=look, args=(each,)) for each in pair]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in threads:
            thread.join()
    assert wrong == []
    assert not any("Traceback" in dashboard.output for dashboard in pair)


def at_once(work: list[Callable[[], Any]]) -> list[Any]:
    """Start all of them together; return the result of each."""
    gate = threading.Barrier(len(work))

    def run_task(task: Callable[[], Any]) -> Any:
        gate.wait()
        return task()

    with ThreadPoolExecutor(len(work)) as pool:
        return [done.result() for done in [pool.submit(run_task, task) for task in work]]


def put(dashboard: Dashboard, name: str, text: str, method: str = "PUT") -> Callable[[], int]:
    body = answering(name, text)
    return lambda: dashboard.request(method, "/api/functions", json=body, headers=WAIT).status


def deploy(dashboard: Dashboard, folder: Path) -> Callable[[], int]:
    """Deploy by the command line; return 202 or 412 as a dashboard would."""

    def run() -> int:
        done = dashboard.cli("deploy", "--path", str(folder), check=False)
        if done.returncode:
            assert "is being" in done.stderr, done.stderr
        return 412 if done.returncode else 202

    return run


def delete(dashboard: Dashboard, name: str) -> Callable[[], int]:
    return lambda: dashboard.request("DELETE", f"/api/functions/{name}").status


def remove(dashboard: Dashboard, name: str) -> Callable[[], int]:
    """Delete by the command line."""

    def run() -> int:
        done = dashboard.cli("delete", "function", name, check=False)
        if done.returncode:
            assert "is being" in done.stderr, done.stderr
        return 412 if done.returncode else 204

    return run


def test_concurrent_deploys_of_one_function(pair: Pair, tmp_path: Path) -> None:
    first, second = pair
    folder = write_function(tmp_path, "shared", _CODE.format(text="by command line"))
    with watching(pair):
        for number in range(2):
            came = at_once(
                [
                    put(first, "shared", f"one {number}"),
                    put(second, "shared", f"two {number}"),
                    put(first, "shared", f"one again {number}", "POST"),
                    deploy(first, folder),
                    deploy(second, folder),
                ]
            )
            assert set(came) <= {202, *REFUSED}
            assert 202 in came
            state, port, _ = settled(pair)["shared"]
            # A deploy that was refused by a lock reports it; the running revision continues.
            assert state in ("ready", "error")
            assert port
            assert invoked(first, "shared") == invoked(second, "shared")
    revisions = first.request("GET", "/api/functions/shared/revisions").json["revisions"]
    assert [each["state"] for each in revisions].count("active") == 1
    assert len({each["number"] for each in revisions}) == len(revisions)
    assert listed(first) == set(shown(first))
    assert delete(first, "shared")() == 204


def test_concurrent_deploys_of_different_functions(pair: Pair, tmp_path: Path) -> None:
    first, second = pair
    names = [f"many-{number}" for number in range(9)]
    folders = [write_function(tmp_path, name, _CODE.format(text=name)) for name in names[6:]]
    with watching(pair):
        came = at_once(
            [
                *(put(first, name, name, "POST") for name in names[:3]),
                *(put(second, name, name, "POST") for name in names[3:6]),
                *(deploy(first, folder) for folder in folders),
            ]
        )
        assert came == [202] * 9
        functions = settled(pair)
    assert {name: functions[name][0] for name in names} == dict.fromkeys(names, "ready")
    assert len({functions[name][1] for name in names}) == 9
    for name in names:
        assert invoked(second, name) == name
    assert listed(second) == set(functions)
    with watching(pair):
        gone = at_once([delete((first, second)[n % 2], name) for n, name in enumerate(names)])
    assert gone == [204] * 9
    until(lambda: not set(names) & {*shown(first), *shown(second)}, "they are gone")


def test_concurrent_deletes_and_deploys(pair: Pair, tmp_path: Path) -> None:
    first, second = pair
    folder = write_function(tmp_path, "torn", _CODE.format(text="torn"))
    with watching(pair):
        for number in range(2):
            came = at_once(
                [
                    put(first, "torn", f"torn {number}"),
                    delete(second, "torn"),
                    deploy(second, folder),
                    remove(first, "torn"),
                    delete(first, "torn"),
                ]
            )
            assert set(came) <= {202, 204, *REFUSED}
            torn = settled(pair).get("torn")
            if torn is not None and torn[0] == "ready":
                assert invoked(first, "torn").startswith("torn")
    assert listed(first) <= set(shown(first))
    assert delete(first, "torn")() == 204
    until(lambda: "torn" not in {*shown(first), *shown(second), *listed(first)}, "it is gone")


def test_projects_are_created_once(pair: Pair) -> None:
    first, second = pair
    body = {"metadata": {"name": "contested"}, "spec": {}}

    def make(dashboard: Dashboard) -> Callable[[], int]:
        return lambda: dashboard.request("POST", "/api/projects", json=body).status

    came = at_once([make(first), make(second), make(first), make(second)])
    assert sorted(came) == [201, 409, 409, 409]
    gone = at_once(
        [
            lambda: first.request("DELETE", "/api/projects", json=body).status,
            lambda: second.request("DELETE", "/api/projects", json=body).status,
        ]
    )
    assert set(gone) <= {204, 404}
    assert "contested" not in second.request("GET", "/api/projects").json
