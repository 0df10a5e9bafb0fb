"""Log records as readable lines."""

import json
import time
from typing import Any

import pytest

from fnbuild.runtime.logs import LineFormatter

NOW = 1000.0 * time.mktime((2026, 5, 4, 9, 15, 2, 0, 0, -1))
ID = "3f2a9c1b-0000-4000-8000-000000000000"


@pytest.fixture(autouse=True)
def _today(monkeypatch: Any) -> None:
    """Set the clock to the fourth of May."""
    local = time.localtime

    def localtime(seconds: float = NOW / 1000.0) -> Any:
        return local(seconds)

    monkeypatch.setattr(time, "localtime", localtime)


def record(message: str, after: float = 0.0, **values: Any) -> dict[str, Any]:
    return {"time": NOW + after, "level": "info", "name": "stdout", "message": message, **values}


def test_all_parts_have_their_positions() -> None:
    text = LineFormatter().line(
        record("looking", 123, name="handler", worker="0", request_id=ID, k=[1])
    )
    assert text == '09:15:02.123 (I) w0 #3f2a9c1b looking {"k": [1]}'
    assert LineFormatter().line(record("hello", level="warning")) == "09:15:02.000 (W) hello"


def test_records_older_than_today_have_their_date() -> None:
    assert LineFormatter().line(record("x", -86400000)) == "2026-05-03 09:15:02.000 (I) x"


def test_the_id_is_shown_when_the_request_changes() -> None:
    lines = LineFormatter()
    written = [
        lines.line(record("x", 1000 * i, worker="0", request_id=name))
        for i, name in enumerate([ID, ID, "other-id", None, ID])
    ]
    assert ["#" + ID[:8] in line for line in written] == [True, False, False, False, True]
    assert "#other-id" in written[2]


def test_consecutive_records_are_one_block() -> None:
    lines = LineFormatter()
    written = [
        lines.line(record(text, i, worker="1", request_id=ID))
        for i, text in enumerate(["Traceback:", "  File", "ValueError: no"])
    ]
    width = len("09:15:02.000 (I) w1 #3f2a9c1b ")
    assert written == [
        "09:15:02.000 (I) w1 #3f2a9c1b Traceback:",
        " " * width + "  File",
        " " * width + "ValueError: no",
    ]


def test_the_lines_of_a_message_are_one_block() -> None:
    width = len("09:15:02.000 (E) w1 ")
    text = LineFormatter().line(
        record("it failed:\n  File", name="handler", level="error", worker="1")
    )
    assert text == "09:15:02.000 (E) w1 it failed:\n" + " " * width + "  File"


@pytest.mark.parametrize(
    "other",
    [
        {"name": "handler"},
        {"name": "stderr"},
        {"worker": "2"},
        {"request_id": "other"},
        {"after": 500},
        {"level": "error"},
    ],
    ids=str,
)
def test_another_source_or_a_pause_starts_a_block(other: dict[str, Any]) -> None:
    lines = LineFormatter()
    lines.line(record("one", worker="1", request_id=ID))
    values: dict[str, Any] = {"after": 1, "worker": "1", "request_id": ID, **other}
    assert lines.line(record("two", **values)).startswith("09:15:02.")


def test_the_width_does_not_count_colours() -> None:
    lines = LineFormatter(colour=True)
    first = lines.line(record("a", name="stderr", level="error", worker="0"))
    assert first == "09:15:02.000 \x1b[31m(E)\x1b[0m w0 a"
    second = lines.line(record("b", 1, name="stderr", level="error", worker="0"))
    assert second == " " * len("09:15:02.000 (E) w0 ") + "b"


def test_variables_that_are_not_json_are_written() -> None:
    assert LineFormatter().line(record("x", k={1, 2})).endswith("{1, 2}" + json.dumps("")[0] + "}")


def test_a_record_without_a_time() -> None:
    assert LineFormatter().line({"message": "x\n"}) == "--:--:--.--- (-) x"
