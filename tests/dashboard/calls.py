"""Functions deployed through the API: bodies, states, replies."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.dashboard.conftest import Dashboard
from tests.dashboard.waiting import until

ANSWER = "def handler(context, event):\n    return {text!r}\n"
_GATED = """\
import os
import time


def init_context(context):
    while not os.path.exists({gate!r}):
        time.sleep(0.02)


def handler(context, event):
    return {text!r}
"""
IGNORE_STATE = {"x-nuclio-delete-function-ignore-state-validation": "true"}
WAIT = {"x-nuclio-wait-function-action": "true"}


def encoded(code: str) -> str:
    return base64.b64encode(code.encode()).decode()


def inline(name: str, code: str, **spec: Any) -> dict[str, Any]:
    """Return the body of a function with inline code."""
    build = {"functionSourceCode": encoded(code)}
    return {
        "metadata": {"name": name},
        "spec": {"handler": "main:handler", "runtime": "python:3.11", "build": build, **spec},
    }


def answering(name: str, text: str, **spec: Any) -> dict[str, Any]:
    """Return the body of a function that replies with a text."""
    return inline(name, ANSWER.format(text=text), **spec)


def gated(name: str, gate: Path, text: str, **spec: Any) -> dict[str, Any]:
    """Return the body of a function that is not ready before the file `gate` exists."""
    return inline(name, _GATED.format(gate=str(gate), text=text), **spec)


def function(dashboard: Dashboard, name: str) -> dict[str, Any]:
    answer = dashboard.request("GET", f"/api/functions/{name}")
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json
    return reply


def status(dashboard: Dashboard, name: str) -> dict[str, Any]:
    shown: dict[str, Any] = function(dashboard, name)["status"]
    return shown


def settled(dashboard: Dashboard, name: str) -> dict[str, Any]:
    """Return the first status in which the function is no longer being built."""
    statuses = [status(dashboard, name)]

    def is_settled() -> bool:
        statuses.append(status(dashboard, name))
        return bool(statuses[-1]["state"] != "building")

    until(is_settled, f"{name} is settled", 180)
    return statuses[-1]


def deployed(dashboard: Dashboard, body: dict[str, Any], method: str = "POST") -> dict[str, Any]:
    """Deploy a function by its body, and return its status once it is ready."""
    answer = dashboard.request(method, "/api/functions", json=body, headers=WAIT)
    assert answer.status == 202, answer.text
    final_status = settled(dashboard, body["metadata"]["name"])
    assert final_status["state"] == "ready", final_status
    return final_status


def invoked(dashboard: Dashboard, name: str) -> str:
    headers = {"x-nuclio-function-name": name}
    answer = dashboard.request("POST", "/api/function_invocations", headers=headers)
    assert answer.status == 200, answer.text
    return answer.text


def operation(dashboard: Dashboard, name: str) -> dict[str, Any]:
    """Return the newest operation of a function with its output."""
    answer = dashboard.request("GET", f"/api/functions/{name}/operation")
    assert answer.status == 200, answer.text
    reply: dict[str, Any] = answer.json
    return reply


@contextmanager
def gone_at_the_end(dashboard: Dashboard, name: str) -> Iterator[str]:
    """Yield the name, and delete the function at the end of the block."""
    yield name
    dashboard.request("DELETE", f"/api/functions/{name}", headers=IGNORE_STATE)
