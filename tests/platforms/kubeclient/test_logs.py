"""Merged logs of several pods, on the current cluster."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from fnbuild.platforms import ALL_RECORDS, LogOptions, LogRecord
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
def finished_pods(cluster: Cluster, greeter_image: str) -> Iterator[str]:
    """A namespace with two pods that wrote five lines concurrently, and one with long lines."""
    with own_namespace(cluster) as namespace:
        for name, program in (("a", _TALKER), ("b", _TALKER), ("long", _LONG)):
            cluster.create(pod(namespace, name, greeter_image, program))
        for name in ("a", "b", "long"):
            until_phase(cluster, namespace, name, "Succeeded")
        yield namespace


def read_records(
    cluster: Cluster, namespace: str, names: list[str], options: LogOptions = ALL_RECORDS
) -> list[LogRecord]:
    return list(logs.read_logs(cluster, namespace, lambda: names, options))


def test_pods_are_merged_by_time(cluster: Cluster, finished_pods: str) -> None:
    records = read_records(cluster, finished_pods, ["a", "b"])
    assert [record.time for record in records] == sorted(record.time for record in records)
    for name in ("a", "b"):
        messages = [record.message for record in records if record.fields["pod"] == name]
        assert messages == [f"line {number}" for number in range(5)]


def test_tail_counts_lines_of_all_pods(cluster: Cluster, finished_pods: str) -> None:
    whole = read_records(cluster, finished_pods, ["a", "b"])
    assert read_records(cluster, finished_pods, ["a", "b"], LogOptions(tail=3)) == whole[-3:]
    assert read_records(cluster, finished_pods, ["a", "b"], LogOptions(tail=0)) == []


def test_since_is_exact(cluster: Cluster, finished_pods: str) -> None:
    whole = read_records(cluster, finished_pods, ["a", "b"])
    assert (
        read_records(cluster, finished_pods, ["a", "b"], LogOptions(since=whole[4].time))
        == whole[4:]
    )


def test_long_lines_are_not_split(cluster: Cluster, finished_pods: str) -> None:
    first, second, third = read_records(cluster, finished_pods, ["long"])
    assert first.message == "x" * 40000
    assert (second.time, second.message) == (1700000000.0, "well")
    assert second.fields == {"answer": 42, "pod": "long"}
    assert third.message == "no end"


def test_missing_pods_have_no_records(cluster: Cluster, finished_pods: str) -> None:
    assert read_records(cluster, finished_pods, ["gone"]) == []
    assert list(cluster.logs(finished_pods, "a", previous=True)) == []


def test_following_includes_new_pods_and_survives_old_ones(
    cluster: Cluster, cluster_namespace: str, greeter_image: str
) -> None:
    def serving() -> list[str] | None:
        if ended.is_set():
            return None
        return [item["metadata"]["name"] for item in cluster.list(kinds.POD, cluster_namespace)]

    def listen() -> None:
        stream = logs.read_logs(cluster, cluster_namespace, serving, LogOptions(follow=True))
        records.extend(record for record in stream if record.message.startswith("line"))

    records: list[LogRecord] = []
    ended = threading.Event()
    cluster.create(pod(cluster_namespace, "old", greeter_image, _TALKER))
    listener = threading.Thread(target=listen)
    listener.start()
    try:
        until("the old pod's lines", lambda: len(records) >= 5, START_SECONDS)
        cluster.delete(kinds.POD, cluster_namespace, "old")
        cluster.create(pod(cluster_namespace, "new", greeter_image, _TALKER))
        until("the new pod's lines", lambda: len(records) >= 10, START_SECONDS)
    finally:
        ended.set()
        listener.join(START_SECONDS)
    assert not listener.is_alive()
    messages = [(record.fields["pod"], record.message) for record in records]
    assert messages == [(name, f"line {number}") for name in ("old", "new") for number in range(5)]


def test_following_continues_after_the_tail(
    cluster: Cluster, cluster_namespace: str, greeter_image: str
) -> None:
    program = 'import time\nfor n in range(600): print("line", n, flush=True); time.sleep(0.05)'
    cluster.create(pod(cluster_namespace, "one", greeter_image, program))
    until(
        "some lines",
        lambda: len(read_records(cluster, cluster_namespace, ["one"])) > 5,
        START_SECONDS,
    )
    options = LogOptions(follow=True, tail=2)
    records = logs.read_logs(cluster, cluster_namespace, lambda: ["one"], options)
    with closing(records):
        numbers = [int(next(records).message.split()[1]) for _ in range(30)]
        assert numbers == list(range(numbers[0], numbers[0] + 30))
        assert numbers[0] > 2
        started = time.monotonic()
    assert time.monotonic() - started < 10, "threads that wait for lines end at once"
