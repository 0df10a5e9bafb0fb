"""The metrics and their text."""

import math
import os
import re
import subprocess
import sys

import pytest

from fnbuild.runtime.processor.metrics import MetricsRegistry, TriggerMetricFamilies, TriggerMetrics
from tests.runtime import interpreters
from tests.runtime.http_wire import ROOT

SAMPLE = re.compile(
    r"([a-zA-Z_:][a-zA-Z0-9_:]*)"
    r'(?:\{((?:[a-zA-Z_]\w*="(?:[^"\\\n]|\\[\\"n])*",?)*)\})? (NaN|[+-]Inf|-?[0-9.e+-]+)\Z'
)
LABEL = re.compile(r'([a-zA-Z_]\w*)="((?:[^"\\\n]|\\[\\"n])*)"')


def samples(text: str) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Parse the exposition text as a scraper does; raise AssertionError for invalid text."""
    assert text.endswith("\n")
    values = {}
    family = kind = ""
    for line in text.splitlines():
        if line.startswith("# HELP "):
            family = line.split(" ", 3)[2]
        elif line.startswith("# TYPE "):
            assert line.split(" ")[2] == family
            kind = line.split(" ")[3]
            assert kind in ("counter", "gauge", "histogram")
        else:
            match = SAMPLE.match(line)
            assert match, line
            suffixes = ("_bucket", "_sum", "_count") if kind == "histogram" else ("",)
            assert match[1] in [family + suffix for suffix in suffixes]
            labels = tuple(
                (name, re.sub(r"\\(.)", lambda m: {"n": "\n"}.get(m[1], m[1]), value))
                for name, value in LABEL.findall(match[2] or "")
            )
            assert (match[1], labels) not in values, line
            values[match[1], labels] = float(match[3])
    return values


def test_an_empty_registry_has_no_text():
    assert MetricsRegistry().text() == ""


def test_counters_and_gauges():
    registry = MetricsRegistry({"function": "f"})
    counter = registry.counter("requests_total", "Requests", ["code"])
    counter.child(200).value += 1
    counter.child("200").value += 2
    counter.child(500)
    registry.gauge("workers", "Workers", ["state"], lambda: {("busy",): 0, ("ready",): 2})
    registry.gauge("connections", "Connections", [], lambda: {(): 7})
    registry.gauge("gpus", "GPUs", ["gpu"], dict)
    assert registry.text() == (
        "# HELP requests_total Requests\n"
        "# TYPE requests_total counter\n"
        'requests_total{function="f",code="200"} 3\n'
        'requests_total{function="f",code="500"} 0\n'
        "# HELP workers Workers\n"
        "# TYPE workers gauge\n"
        'workers{function="f",state="busy"} 0\n'
        'workers{function="f",state="ready"} 2\n'
        "# HELP connections Connections\n"
        "# TYPE connections gauge\n"
        'connections{function="f"} 7\n'
    )
    assert len(samples(registry.text())) == 5


def test_histograms_count_up_to_each_bound():
    registry = MetricsRegistry()
    histogram = registry.histogram("took", "Time", bounds=[0.5, 1, 10]).child()
    for value in (0.1, 0.5, 0.6, 1, 5, 11, 1000):
        histogram.observe(value)
    values = samples(registry.text())
    assert [values["took_bucket", (("le", le),)] for le in ("0.5", "1", "10", "+Inf")] == [
        2,
        4,
        5,
        7,
    ]
    assert values["took_count", ()] == 7
    assert values["took_sum", ()] == pytest.approx(1018.2)


def test_text_is_escaped():
    registry = MetricsRegistry({"function": 'a"b\\c\nd'})
    registry.counter("x_total", "back\\slash and\nline", ["l"]).child('"\\\n').value += 1
    text = registry.text()
    assert text.splitlines()[0] == "# HELP x_total back\\\\slash and\\nline"
    assert samples(text) == {("x_total", (("function", 'a"b\\c\nd'), ("l", '"\\\n'))): 1}


@pytest.mark.parametrize(
    ("value", "text"),
    [(math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN"), (1e300, repr(int(1e300)))],
)
def test_numbers_of_all_kinds(value: float, text: str):
    registry = MetricsRegistry()
    registry.gauge("g", "G", [], lambda: {(): value})
    assert registry.text().splitlines()[-1] == f"g {text}"


def test_misuse_is_an_error():
    registry = MetricsRegistry()
    counter = registry.counter("a_total", "A", ["x"])
    with pytest.raises(ValueError, match="the metric a_total exists already"):
        registry.gauge("a_total", "A", [], dict)
    with pytest.raises(ValueError, match="has the labels"):
        counter.child()
    for name in ("1a", "a-b", "", "a b"):
        with pytest.raises(ValueError, match="cannot be the name of a metric"):
            registry.counter(name, "X")
    for label in ("1a", "a-b", "__a", "a:b", ""):
        with pytest.raises(ValueError, match="cannot be the name of a label"):
            registry.counter("b_total", "B", [label])
    with pytest.raises(ValueError, match="cannot be the name of a label"):
        registry.histogram("h", "H", ["le"])
    with pytest.raises(ValueError, match="not in ascending order"):
        registry.histogram("h", "H", bounds=[2, 1])


def nuclio_names() -> str:
    registry = MetricsRegistry({"instance": "i", "namespace": "n", "function": "f", "project": "p"})
    trigger = TriggerMetrics(TriggerMetricFamilies(registry), "http", "myHttpTrigger")
    trigger.worker_requested(free=1, workers=4, size=1000)
    trigger.worker_allocated(0)
    trigger.worker_requested(free=0, workers=4, size=0)
    trigger.worker_allocated(0.25)
    trigger.worker_requested(free=0, workers=4, size=300_000)
    trigger.wait_timed_out(10)
    trigger.refused()
    trigger.handled("0", 0.5, success=True)
    trigger.handled("3", 0.125, success=False)
    trigger.add_stages(queue=1, handover=0.03, handler=100, reply=0.5)
    return registry.text()


def test_triggers_have_nuclios_names():
    values = samples(nuclio_names())
    constant = (("instance", "i"), ("namespace", "n"), ("function", "f"), ("project", "p"))
    base = (*constant, ("trigger_kind", "http"), ("trigger_id", "myHttpTrigger"))

    def value(name: str, *labels: tuple[str, str]) -> float:
        return values["nuclio_processor_" + name, (*base, *labels)]

    assert value("handled_events_total", ("result", "success")) == 1
    assert value("handled_events_total", ("result", "failure")) == 1
    assert value("worker_allocation_total", ("result", "success_immediate")) == 1
    assert value("worker_allocation_total", ("result", "success_after_wait")) == 1
    assert value("worker_allocation_total", ("result", "error_timeout")) == 1
    assert value("worker_allocation_total", ("result", "error_backlog")) == 1
    assert value("worker_allocation_count") == 3
    assert value("worker_allocation_wait_duration_milliseconds_sum") == 10250
    assert value("worker_allocation_workers_available_percentage") == 25
    duration = "handled_events_duration_milliseconds_"
    assert value(duration + "sum", ("worker_index", "0")) == 500
    assert value(duration + "count", ("worker_index", "0")) == 1
    assert value(duration + "sum", ("worker_index", "3")) == 125
    assert value(duration + "bucket", ("worker_index", "3"), ("le", "100")) == 0
    assert value(duration + "bucket", ("worker_index", "3"), ("le", "200")) == 1
    assert value("request_body_bytes_sum") == 301_000
    assert value("request_body_bytes_bucket", ("le", "1024")) == 2
    for stage, spent in (("queue", 1), ("handover", 0.03), ("handler", 100), ("reply", 0.5)):
        assert value("event_stage_duration_milliseconds_sum", ("stage", stage)) == spent
    assert value("event_stage_duration_milliseconds_bucket", ("stage", "handover"), ("le", "0.05"))


SCRIPT = """
from fnbuild.runtime.processor.metrics import MetricsRegistry, TriggerMetricFamilies, TriggerMetrics
registry = MetricsRegistry({"function": "f"})
trigger = TriggerMetrics(TriggerMetricFamilies(registry), "http", "h")
trigger.worker_requested(1, 2, 1000)
trigger.worker_allocated(0.0625)
trigger.handled("0", 0.1, True)
print(registry.text(), end="")
"""


@pytest.mark.parametrize("version", interpreters.every())
def test_every_interpreter_writes_the_same(version: str):
    def written(python: str | None) -> str:
        assert python is not None
        return subprocess.run(
            [python, "-W", "error", "-c", SCRIPT],
            env={**os.environ, "PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"},
            capture_output=True,
            text=True,
            check=True,
        ).stdout

    text = written(interpreters.find(version))
    assert text == written(sys.executable)
    assert samples(text)
