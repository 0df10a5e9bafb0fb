"""The failure reason of a function from the messages of Nuclio."""

from __future__ import annotations

import json

from fnbuild.platforms.nuclio import rollout

TRACEBACK = """\
Traceback (most recent call last):
  File "/opt/nuclio/main.py", line 1, in <module>
    import torch
ModuleNotFoundError: No module named 'torch'"""


def record(level: str, message: str) -> str:
    return json.dumps({"time": 1.0, "level": level, "message": message, "worker": "0"})


def test_errors_in_the_functions_log_come_first() -> None:
    log = "\n".join([record("info", "Listening"), record("error", TRACEBACK)])
    message = f"NuclioFunction in unhealthy state:\n\nPod logs:\n\n* nuclio-boxes-1\n{log}"
    reason, detail = rollout.failure_reason({"status": {"state": "unhealthy", "message": message}})
    assert reason == "ModuleNotFoundError: No module named 'torch'"
    assert detail == TRACEBACK


def test_a_bare_traceback_is_the_detail() -> None:
    message = f"Function wasn't ready in time\n\n{TRACEBACK}\n"
    reason, detail = rollout.failure_reason({"status": {"state": "error", "message": message}})
    assert reason == "ModuleNotFoundError: No module named 'torch'"
    assert detail == TRACEBACK


def test_the_message_of_nuclio_is_the_fallback() -> None:
    status = {"state": "error", "message": "Failed to pull image\nno such host"}
    assert rollout.failure_reason({"status": status}) == (
        "Failed to pull image",
        "Failed to pull image\nno such host",
    )
    assert rollout.failure_reason({"status": {"state": "error"}}) == ("error", None)
    logs = [{"message": "Building"}, {"message": "no space left"}]
    assert rollout.failure_reason({"status": {"state": "error", "logs": logs}}) == (
        "error",
        "Building\nno space left",
    )


def test_the_log_of_a_replica_is_used_if_the_message_has_no_reason() -> None:
    status = {"state": "unhealthy", "message": "Function wasn't ready in time"}
    assert rollout.failure_reason({"status": status}, TRACEBACK)[0].startswith(
        "ModuleNotFoundError"
    )
