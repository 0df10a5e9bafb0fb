"""Merged logs of several pods, on the current cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from fnbuild.platforms import LogRecord
from fnbuild.platforms.kubeclient import kinds, logs
from fnbuild.platforms.kubeclient.cluster import Cluster
from tests.cluster import own_namespace
from tests.engine import until
from tests.platforms.kubeclient.pods import START_SECONDS, pod, until_phase

pytestmark = pytest.mark.system

_TALKER = """
    import time
    for number in range(5):
        print("line", number, flush=True)
        time.sleep(0.2)
"""
_LONG = """
    print("x" * 40000)
    print('{"level": "info", "message": "well", "time": 1700000000000, "answer": 42}')
    print("no end", end="")
"""


@pytest.fixture(scope="module")
def talked(cluster: Cluster, greeter_image: str) -> Iterator[str]:
    """A namespace with two pods that said five lines each at the same time, and one with more."""
    with own_namespace(cluster) as namespace:
        for name, program in (("a", _TALKER), ("b", _TALKER), ("long", _LONG)):
            cluster.create(pod(namespace, name, greeter_image, program))
        for name in ("a", "b", "long"):
            until_phase(cluster, namespace, name, "Succeeded")
        yield namespace


def past(
    cluster: Cluster,
    namespace: str,
    names: list[str],
    *,
    since: float | None = None,
    tail: int | None = None,
) -> list[LogRecord]:
    found = logs.read_logs(cluster, namespace, lambda: names, follow=False, since=since, tail=tail)
    return list(found)


def test_pods_are_merged_by_time(cluster: Cluster, talked: str) -> None:
    found = past(cluster, talked, ["a", "b"])
    assert [one.time for one in found] == sorted(one.time for one in found)
    for name in ("a", "b"):
        own = [one.message for one in found if one.fields["pod"] == name]
        assert own == [f"line {number}" for number in range(5)]


def test_tail_counts_lines_of_all_pods(cluster: Cluster, talked: str) -> None:
    whole = past(cluster, talked, ["a", "b"])
    assert past(cluster, talked, ["a", "b"], tail=3) == whole[-3:]
    assert past(cluster, talked, ["a", "b"], tail=0) == []


def test_since_is_exact(cluster: Cluster, talked: str) -> None:
    whole = past(cluster, talked, ["a", "b"])
    assert past(cluster, talked, ["a", "b"], since=whole[4].time) == whole[4:]


def test_long_lines_stay_whole(cluster: Cluster, talked: str) -> None:
    first, second, third = past(cluster, talked, ["long"])
    assert first.message == "x" * 40000
    assert (second.time, second.message) == (1700000000.0, "well")
    assert second.fields == {"answer": 42, "pod": "long"}
    assert third.message == "no end"


def test_pods_that_are_not_there_say_nothing(cluster: Cluster, talked: str) -> None:
    assert past(cluster, talked, ["gone"]) == []
    assert list(cluster.logs(talked, "a", previous=True)) == []


def test_following_takes_in_new_pods_and_outlives_old_ones(
    cluster: Cluster, cluster_namespace: str, greeter_image: str
) -> None:
    def serving() -> list[str] | None:
        if done.is_set():
            return None
        return [one["metadata"]["name"] for one in cluster.list(kinds.POD, cluster_namespace)]

    def listen() -> None:
        reading = logs.read_logs(
            cluster, cluster_namespace, serving, follow=True, since=None, tail=None
        )
        found.extend(record for record in reading if record.message.startswith("line"))

    found: list[LogRecord] = []
    done = threading.Event()
    cluster.create(pod(cluster_namespace, "old", greeter_image, _TALKER))
    listener = threading.Thread(target=listen)
    listener.start()
    try:
        until("the old pod's lines", lambda: len(found) >= 5, START_SECONDS)
        cluster.delete(kinds.POD, cluster_namespace, "old")
        cluster.create(pod(cluster_namespace, "new", greeter_image, _TALKER))
        until("the new pod's lines", lambda: len(found) >= 10, START_SECONDS)
    finally:
        done.set()
        listener.join(START_SECONDS)
    assert not listener.is_alive()
    said = [(one.fields["pod"], one.message) for one in found]
    assert said == [(name, f"line {number}") for name in ("old", "new") for number in range(5)]


def test_following_goes_on_behind_the_tail(
    cluster: Cluster, cluster_namespace: str, greeter_image: str
) -> None:
    program = 'import time\nfor n in range(600): print("line", n, flush=True); time.sleep(0.05)'
    cluster.create(pod(cluster_namespace, "one", greeter_image, program))
    until("some lines", lambda: len(past(cluster, cluster_namespace, ["one"])) > 5, START_SECONDS)
    reading = logs.read_logs(
        cluster, cluster_namespace, lambda: ["one"], follow=True, since=None, tail=2
    )
    with closing(reading):
        numbers = [int(next(reading).message.split()[1]) for _ in range(30)]
        assert numbers == list(range(numbers[0], numbers[0] + 30))
        assert numbers[0] > 2
        started = time.monotonic()
    assert time.monotonic() - started < 10, "threads that wait for lines end at once"
