"""The log of a server, whose records are as TorchServe 0.12 writes them."""

from __future__ import annotations

from fnbuild.platforms import LogRecord
from fnbuild.platforms.torchserve.server_log import (
    has_load_failure,
    last_line,
    with_levels,
    worker_output,
)

TRACEBACK = """\
Traceback (most recent call last):
  File "/usr/lib/python3/dist-packages/ts/model_loader.py", line 143, in load
    initialize_fn(service.context)
  File "/tmp/models/0/main.py", line 1, in <module>
    raise RuntimeError("no weights")
RuntimeError: no weights"""
PIP = "Custom pip package installation failed for model digits"


def record(name: str, message: str, level: str = "error") -> LogRecord:
    return LogRecord(time=0.0, level=level, message=message, fields={"name": name})


def test_requirements_that_cannot_be_installed_are_a_failure_with_the_output_of_pip() -> None:
    output = f"{PIP}:\nERROR: No matching distribution found for missing-package\n"
    for name, message in (
        ("SnapshotManager", f"Error while registering model. Details: {PIP}"),
        ("ModelServer", "Failed to load model: /store/digits.mar"),
    ):
        records = [record("ModelManager", output), record(name, message)]
        assert has_load_failure(records)
        assert worker_output(records, "").startswith(f"{PIP}:")
        assert "missing-package" in last_line(worker_output(records, ""))
    assert not has_load_failure([record("ModelManager", "Model digits loaded.", "info")])


def output(*messages: str, worker: str = "W-9000-digits_1-stdout") -> list[LogRecord]:
    lines = [line for message in messages for line in message.splitlines()]
    return [LogRecord(1.0, "info", line, worker, {"name": "MODEL_LOG"}) for line in lines]


def test_a_worker_that_fails_while_it_starts_is_a_failure() -> None:
    assert has_load_failure(output("Failed to load model digits, exception no weights"))
    assert has_load_failure([LogRecord(1.0, "warn", "Load model failed: digits, error: …")])
    assert not has_load_failure(output("Torch worker started."))


def test_the_output_is_that_of_an_attempt_which_is_complete() -> None:
    failed = "Failed to load model digits, exception no weights"
    start = "s_name_part0=/tmp/.ts.sock, s_name_part1=9000, pid=31"
    records = output(start, failed, TRACEBACK, start, failed, "Traceback (most recent call last):")
    text = worker_output(records, "1")
    assert text.splitlines()[0] == "Traceback (most recent call last):"
    assert "model_loader" not in text
    assert last_line(text) == "RuntimeError: no weights"
    assert worker_output(output("Backend worker process died.", TRACEBACK), "1") == text
    assert worker_output(records, "2") == ""
    assert last_line("") == "its workers did not start"


def test_records_of_handlers_have_their_own_level_and_worker() -> None:
    [record] = with_levels(iter(output("ERROR no face found")))
    assert (record.level, record.message, record.worker) == ("error", "no face found", "9000")


def test_lines_that_java_prints_at_its_start_are_no_errors() -> None:
    printed = LogRecord(time=0.0, level="error", message="Model server started.")
    failed = record("ModelManager", "no such model")
    assert [item.level for item in with_levels(iter([printed, failed]))] == ["info", "error"]
