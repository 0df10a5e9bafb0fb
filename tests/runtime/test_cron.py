"""Cron triggers, and functions with several triggers."""

from __future__ import annotations

import contextlib
import http.client
import json
import time
from typing import Any
from urllib.parse import urlsplit

import pytest

from fnbuild.runtime.config import ConfigFileError, ProcessorConfig
from fnbuild.runtime.triggers.base import TriggerContext
from fnbuild.runtime.triggers.cron import CronTrigger
from tests.runtime import interpreters
from tests.runtime.conftest import PATIENCE

pytestmark = pytest.mark.system

HANDLER = """
import time


def handler(context, event):
    body = event.body if isinstance(event.body, (str, dict)) else event.body.decode()
    context.logger.info_with(
        "ran", kind=event.trigger.kind, by=event.trigger.name, worker=context.worker_id,
        own=context.trigger.name, method=event.method, path=event.path, body=body,
        mark=event.get_header("x-mark"), headers=event.headers,
        age=abs(time.time() - event.timestamp.timestamp()),
    )
    if event.get_header("x-mark") == "raise":
        raise ValueError("no such label")
    time.sleep(float(event.get_header("x-seconds") or 0))
    return 404, "nothing to do"
"""


def triggers(**crons: Any) -> dict[str, Any]:
    configured: dict[str, Any] = {"web": {"kind": "http", "num_workers": 1}}
    for name, values in crons.items():
        attributes = {"interval": 0.1, **values.pop("attributes", {})}
        configured[name] = {"kind": "cron", "attributes": attributes, **values}
    return configured


@pytest.fixture(params=interpreters.every())
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_interval_and_event(serve: Any, soon: Any, version: str) -> None:
    headers = {"X-Mark": 7, "x-odd-NAME": "a"}
    event = {"body": {"task": "sweep"}, "headers": headers, "method": "PUT"}
    crons = triggers(sweep={"attributes": {"event": event}})
    processor = serve(HANDLER, version=version, triggers=crons, environ={"TZ": "UTC"})
    soon(lambda: len(processor.records(message="ran")) >= 3)
    record = processor.records(message="ran")[0]
    expected = {
        "kind": "cron",
        "by": "sweep",
        "own": "sweep",
        "worker": "1",
        "method": "PUT",
        "path": "/",
        "body": {"task": "sweep"},
        "mark": "7",
        "headers": {"X-Mark": "7", "x-odd-NAME": "a"},
    }
    assert expected.items() <= record.items()
    assert record["age"] < 60
    processor.await_record('cron trigger "sweep": the handler answered 404', level="warn")
    # The http trigger has its own worker.
    assert processor.send().status == 404
    (by_http,) = processor.records(message="ran", kind="http")
    assert (by_http["by"], by_http["worker"]) == ("web", "0")
    status = processor.status()
    (shown,) = status["triggers"]
    assert (shown["name"], shown["kind"]) == ("sweep", "cron")
    assert shown["runs"] >= 3
    assert abs(shown["next"] - time.time()) < 60
    assert [worker["id"] for worker in status["workers"]] == ["0", "1"]
    text = processor.admin("/metrics").body.decode()
    assert "nuclio_processor_handled_events_total{" in text
    assert 'trigger_kind="cron",trigger_id="sweep"' in text


def test_a_schedule_with_seconds(serve: Any, soon: Any) -> None:
    crons = triggers(tick={"attributes": {"interval": None, "schedule": "* * * * * *"}})
    processor = serve(HANDLER, triggers=crons)
    soon(lambda: len(processor.records(message="ran")) >= 2)
    assert processor.status()["triggers"][0]["next"] % 1 == 0


def test_overdue_runs_are_skipped(serve: Any, soon: Any) -> None:
    slow = {"event": {"headers": {"x-seconds": "1.5"}}}
    processor = serve(HANDLER, triggers=triggers(slow={"attributes": slow}))
    processor.await_record("a run was skipped: the last run still waits for a worker", level="warn")
    processor.await_record("runs were skipped", level="warn")
    status = soon(lambda: (s := processor.status()["triggers"][0])["runs"] >= 2 and s)
    assert status["skipped"] > status["runs"]
    # Many skipped runs are summarized in two lines.
    warnings = [r for r in processor.records(level="warn") if "skipped" in r["message"]]
    assert len(warnings) <= 2 * status["runs"] + 2
    assert processor.end() == 0


def test_workers_of_the_trigger_run_concurrently(serve: Any, soon: Any) -> None:
    slow = {"event": {"headers": {"x-seconds": "1"}}}
    processor = serve(HANDLER, triggers=triggers(slow={"num_workers": 3, "attributes": slow}))
    soon(lambda: len({r["worker"] for r in processor.records(message="ran")}) == 3)


def test_a_named_pool_is_shared(serve: Any, soon: Any) -> None:
    crons = triggers(first={"allocator": "pool"}, second={"allocator": "pool", "num_workers": 2})
    crons["web"]["allocator"] = "pool"
    processor = serve(HANDLER, triggers=crons)
    assert len(processor.status()["workers"]) == 2
    assert processor.send().status == 404
    soon(lambda: {r["by"] for r in processor.records(message="ran")} == {"web", "first", "second"})
    assert {r["own"] for r in processor.records(message="ran")} == {"web"}
    assert {r["worker"] for r in processor.records(message="ran")} <= {"0", "1"}


def test_failures_are_logged_with_the_id_of_the_run(serve: Any) -> None:
    event = {"headers": {"x-mark": "raise"}}
    processor = serve(HANDLER, triggers=triggers(bad={"attributes": {"event": event}}))
    record = processor.await_record("no such label", level="error")
    assert record["request_id"]


def test_a_drain_stops_the_schedule(serve: Any, soon: Any) -> None:
    processor = serve(HANDLER, triggers=triggers(tick={}), drain_timeout=PATIENCE)
    soon(lambda: processor.records(message="ran"))
    # An accepted connection keeps the processor running until it closes.
    client = http.client.HTTPConnection(urlsplit(processor.url).netloc, timeout=PATIENCE)
    with contextlib.closing(client):
        client.request("GET", "/__internal/health")
        client.getresponse().read()
        processor.tell("/drain")
        assert processor.status()["triggers"][0]["next"] is None
    assert processor.process.wait(PATIENCE) == 0


def test_a_function_without_an_http_trigger(serve: Any, soon: Any) -> None:
    crons = triggers(tick={})
    del crons["web"]
    processor = serve(HANDLER, triggers=crons)
    soon(lambda: processor.records(message="ran"))
    assert processor.send(path="/__internal/health")[::2] == (200, b"ok")
    assert json.loads(processor.send().body) == {"error": "the function has no http trigger"}


def test_reload_reaches_the_workers_of_all_triggers(serve: Any) -> None:
    processor = serve(HANDLER, triggers=triggers(tick={}))
    for options in ({}, {"restart": True}):
        answer = json.loads(processor.tell("/reload", options).body)
        assert answer == {"ok": True, "workers": {"0": "ok", "1": "ok"}}


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "triggers.t.attributes: a cron trigger needs an interval or a schedule"),
        ({"interval": "5m"}, "triggers.t.attributes.interval: '5m' is not a number of seconds"),
        ({"schedule": "61 * * * *"}, 'triggers.t.attributes.schedule: "61" is not a valid minute'),
    ],
)
def test_invalid_cron_triggers(attributes: dict[str, Any], message: str) -> None:
    triggers_ = {"t": {"kind": "cron", "attributes": attributes}}
    listeners = {"http": {"port": 0}}
    values = {"handler": "m:h", "code": "/", "triggers": triggers_, "listeners": listeners}
    config = ProcessorConfig(values)
    unused: Any = None
    context = TriggerContext(config.triggers["t"], unused, unused, unused, unused)
    with pytest.raises(ConfigFileError) as caught:
        CronTrigger(context)
    assert message in str(caught.value)
