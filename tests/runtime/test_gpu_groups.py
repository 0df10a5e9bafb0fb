"""GPU groups: processors that share memory, of which not all may be awake."""

from __future__ import annotations

import json
import os
import signal
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from fnbuild.runtime.groups.folder import GroupFolder

pytestmark = pytest.mark.system

HANDLER = """
import os
import time


def init_context(context):
    while os.path.exists("gate"):
        time.sleep(0.01)
    if os.path.exists("broken"):
        raise ValueError("no weights")
    context.user_data.model = b"x" * int(os.environ.get("SIZE", 1))


def handler(context, event):
    time.sleep(float(event.get_header("x-seconds") or 0))
    return {"pid": os.getpid()}
"""


@pytest.fixture
def member(serve: Any, tmp_path: Path) -> Callable[..., Any]:
    """Start a processor in the group of the test; by default one member may be awake."""
    folder = tmp_path / "group"
    folder.mkdir()

    def start(name: str, **settings: Any) -> Any:
        changes = settings.pop("changes", {})
        group = {"name": "g", "folder": str(folder), **(settings or {"awake": 1})}
        function = {"name": name, "namespace": "nuclio", "revision": changes.pop("revision", 1)}
        sleep = {"group": group, **changes.pop("sleep", {})}
        source = changes.pop("source", HANDLER)
        return serve(source, function=function, sleep=sleep, **changes)

    start.folder = folder  # type: ignore[attr-defined]
    return start


def state(processor: Any) -> str:
    return processor.status()["sleep"]["state"]


def states(*processors: Any) -> list[str]:
    return [state(processor) for processor in processors]


def test_the_load_of_a_member_puts_another_to_sleep(member: Any, soon: Any) -> None:
    a, b = member("a"), member("b")
    assert states(a, b) == ["asleep", "awake"]
    assert a.status()["state"] == "ready"
    answer = a.send()
    assert answer.status == 200
    assert "wake;dur" in answer.header("server-timing")
    assert states(a, b) == ["awake", "asleep"]
    group = a.status()["sleep"]["group"]
    assert (group["name"], group["awake_limit"], group["memory_limit"]) == ("g", 1, None)
    members = [(m["function"], m["state"], m["place"]) for m in group["members"]]
    assert members == [("nuclio/a", "awake", 0), ("nuclio/b", "asleep", 0)]


def test_the_least_recently_used_member_falls_asleep(member: Any) -> None:
    a, b = member("a", awake=2), member("b", awake=2)
    a.call()
    c = member("c", awake=2)
    assert states(a, b, c) == ["awake", "asleep", "awake"]
    b.call()
    assert states(a, b, c) == ["asleep", "awake", "awake"]


def test_members_awake_fit_the_budget(member: Any) -> None:
    a, b = member("a", memory=100, need=60), member("b", need=30)
    assert states(a, b) == ["awake", "awake"]
    c = member("c", need=40)
    assert states(a, b, c) == ["asleep", "awake", "awake"]
    group = c.status()["sleep"]["group"]
    assert (group["memory_used"], group["memory_limit"], group["awake_limit"]) == (70, 100, None)


def test_a_member_with_requests_in_hand_answers_them_first(member: Any, soon: Any) -> None:
    a, b = member("a"), member("b")
    b.call()
    with ThreadPoolExecutor() as threads:
        long = threads.submit(b.send, x_seconds="2")
        b.await_workers("busy")
        waiting = threads.submit(a.send)
        soon(lambda: state(a) == "waiting")
        mine = a.status()["sleep"]["group"]["members"][0]
        assert (mine["place"], mine["state"]) == (1, "waiting")
        assert mine["waiting_since"] > time.time() - 60
        time.sleep(1.2)
        # It has stopped to take requests: this one is answered after the next wake.
        later = threads.submit(b.send)
        assert long.result().status == 200
        assert waiting.result().status == 200
        assert later.result().status == 200


def test_constant_requests_do_not_starve_another_member(member: Any) -> None:
    a, b = member("a"), member("b")
    deadline = time.monotonic() + 6

    def client(processor: Any) -> float:
        worst = 0.0
        while time.monotonic() < deadline:
            began = time.monotonic()
            assert processor.send(x_seconds="0.05").status == 200
            worst = max(worst, time.monotonic() - began)
        return worst

    with ThreadPoolExecutor(8) as threads:
        waits = list(threads.map(client, [a, b] * 4))
    assert max(waits) < 5


BATCH = """
def handler(context, batch):
    return [event.body.decode() for event in batch]
"""
MODEL = """
def handler(context, event):
    return event.body
"""


@pytest.mark.parametrize("kind", ["batches", "instances"])
def test_batches_and_instances_take_turns(member: Any, kind: str) -> None:
    if kind == "batches":
        batch = {"size": 4, "timeout": 0.02, "adaptive": False}
        changes = {"source": BATCH, "trigger": {"batch": batch}}
    else:
        attributes = {"protocols": ["v1"], "model": "m"}
        changes = {"source": MODEL, "workers": 2, "trigger": {"attributes": attributes}}
    processors = [member(name, awake=1, changes=dict(changes)) for name in "ab"]
    deadline = time.monotonic() + 4

    def client(number: int) -> int:
        count = 0
        while time.monotonic() < deadline:
            processor = processors[(number + count) % 2]
            if kind == "batches":
                assert processor.send(f"{number}-{count}").body.decode() == f"{number}-{count}"
            else:
                body = json.dumps({"instances": [number, count, 1, 2, 3]})
                answer = processor.send(body, "/v1/models/m:predict")
                assert json.loads(answer.body)["predictions"] == [number, count, 1, 2, 3], answer
            count += 1
        return count

    with ThreadPoolExecutor(8) as threads:
        assert all(count > 2 for count in threads.map(client, range(8)))


def test_permanent_members_stay_awake(member: Any) -> None:
    a = member("a", memory=100, need=60, permanent=True, changes={"sleep": {"idle_timeout": 0.1}})
    b, c = member("b", need=30), member("c", need=40)
    assert states(a, b, c) == ["awake", "asleep", "awake"]
    answer = a.tell("/sleep")
    assert answer.status == 409
    assert "permanent member of the GPU group g" in answer.body.decode()


def test_a_member_that_can_never_fit_is_refused(member: Any) -> None:
    member("a", memory=100 << 20, need=60 << 20, permanent=True)
    b = member("b", need=50 << 20, changes={"wait": None})
    status = b.await_state("unhealthy")
    assert "its permanent members leave no room: nuclio/a" in status["message"]
    c = member("c", need=200 << 20, changes={"wait": None})
    message = c.await_state("unhealthy")["message"]
    assert "needs 200 MiB, and the budget is 100 MiB" in message


def test_waiting_has_a_limit(member: Any, soon: Any) -> None:
    a = member("a", changes={"readiness_timeout": 1.5})
    b = member("b")
    with ThreadPoolExecutor() as threads:
        threads.submit(b.send, x_seconds="4")
        b.await_workers("busy")
        answer = a.send()
        assert answer.status == 503
        error = json.loads(answer.body)["error"]
        assert "the GPU group g has no room after 1.5 s: nuclio/b is awake" in error
        assert state(a) == "asleep"
    assert a.send().status == 200


def test_a_killed_member_counts_as_asleep(member: Any, soon: Any) -> None:
    a, b = member("a"), member("b")
    with ThreadPoolExecutor() as threads:
        threads.submit(b.send, x_seconds="20")
        b.await_workers("busy")
        waiting = threads.submit(a.send)
        soon(lambda: state(a) == "waiting")
        os.kill(b.pid, signal.SIGKILL)
        assert waiting.result().status == 200
    members = a.status()["sleep"]["group"]["members"]
    assert [m["function"] for m in members] == ["nuclio/a"]
    assert len(list(member.folder.glob("*.sock"))) == 1


def test_a_killed_member_that_waits_leaves_no_ticket(member: Any, soon: Any) -> None:
    a, b, c = member("a"), member("b"), member("c")
    with ThreadPoolExecutor() as threads:
        long = threads.submit(c.send, x_seconds="1.5")
        c.await_workers("busy")
        threads.submit(a.send)
        soon(lambda: state(a) == "waiting")
        os.kill(a.pid, signal.SIGKILL)
        assert b.send().status == 200
        assert long.result().status == 200


def test_a_broken_member_leaves_room_for_others(member: Any, soon: Any) -> None:
    a, b = member("a"), member("b")
    (a.code / "broken").touch()
    answer = a.send()
    assert answer.status == 503
    assert "ValueError: no weights" in json.loads(answer.body)["error"]
    assert b.send().status == 200
    (a.code / "broken").unlink()
    soon(lambda: a.send().status == 200)


def test_the_memory_is_measured_if_it_is_not_given(member: Any, soon: Any) -> None:
    size = {"env": {"SIZE": str(80_000_000)}}
    a = member("a", memory=150_000_000, changes=size)
    b = member("b", memory=150_000_000, changes=size)
    assert states(a, b) == ["asleep", "awake"]

    def needs() -> list[int | None]:
        return [m["memory"] for m in a.status()["sleep"]["group"]["members"]]

    soon(lambda: None not in needs())
    assert all(80_000_000 < need < 150_000_000 for need in needs())
    c = member("c", need=1000)
    assert states(a, b, c) == ["asleep", "awake", "awake"]


def test_a_new_revision_waits_for_the_old_one(member: Any, soon: Any) -> None:
    old = member("a", memory=100, need=60, permanent=True)
    new = member("a", need=60, permanent=True, changes={"revision": 2})
    assert states(old, new) == ["asleep", "awake"]
    old.end()
    soon(lambda: len(new.status()["sleep"]["group"]["members"]) == 1)


def test_a_processor_that_starts_again_begins_asleep(member: Any) -> None:
    first = member("a", awake=1, instance="1-x")
    b = member("b")
    first.end()
    again = member("a", awake=1, instance="1-x")
    assert states(again, b) == ["asleep", "awake"]
    assert [worker["state"] for worker in again.status()["workers"]] == ["asleep"]
    assert again.status()["start"]["template"] == 0
    assert again.send().status == 200
    assert states(again, b) == ["awake", "asleep"]
    # Another revision has to prove itself.
    other = member("a", awake=1, instance="2-y")
    assert states(again, other) == ["asleep", "awake"]


def test_a_frozen_process_with_the_lock_blocks_no_processor(member: Any) -> None:
    a, b = member("a"), member("b")
    folder = GroupFolder(str(member.folder))
    with folder.change("nobody") as change:
        assert change is not None
        assert b.send().status == 200
        assert a.admin("/ready").status == 200
        time.sleep(0.2)
    folder.close()
    assert a.send().status == 200


def test_a_file_without_json_is_replaced(member: Any) -> None:
    a, b = member("a"), member("b")
    (member.folder / "group.json").write_text("{")
    assert a.send().status == 200
    assert b.send().status == 200
