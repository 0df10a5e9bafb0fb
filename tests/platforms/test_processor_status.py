"""Metrics of processors."""

from __future__ import annotations

from fnbuild.platforms import Statistics
from fnbuild.platforms.processor_status import parse_metrics

NUCLIOS = """\
# HELP nuclio_processor_handled_events_total Total number of handled events
nuclio_processor_handled_events_total{function="a",result="failure",trigger_id="h"} 2
nuclio_processor_handled_events_total{function="a",result="success",trigger_id="h"} 5
nuclio_processor_handled_events_duration_milliseconds_sum{trigger_id="h"} 123.5
go_goroutines 17
"""


def test_processors_of_nuclio_report_less() -> None:
    assert parse_metrics(NUCLIOS) == Statistics(requests=7, errors=2, total_milliseconds=123.5)
    assert parse_metrics("go_goroutines 17\n") is None
    assert parse_metrics("") is None


def test_refusals_and_timeouts_count_as_errors() -> None:
    statistics = parse_metrics(
        NUCLIOS
        + 'nuclio_processor_worker_allocation_total{result="success_immediate"} 5\n'
        + 'nuclio_processor_worker_allocation_total{result="error_timeout"} 3\n'
        + 'nuclio_processor_http_refusals_total{status="413"} 4\n'
        + 'nuclio_processor_gpu_memory_bytes{gpu="0",uuid="x"} 1024\n'
        + 'nuclio_processor_gpu_memory_bytes{gpu="1",uuid="y"} 1024\n'
        + 'nuclio_processor_workers{state="ready"} 2\n'
        + 'nuclio_processor_workers{state="busy"} 0\n'
    )
    assert statistics is not None
    assert (statistics.requests, statistics.errors, statistics.workers) == (14, 9, {"ready": 2})
    assert statistics.gpu_memory == 2048
