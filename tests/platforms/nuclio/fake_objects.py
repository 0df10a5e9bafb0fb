"""Function objects of the stand-in for Nuclio: validation, defaults and representation."""

from __future__ import annotations

import json
import re
import subprocess
import time
import urllib.request
from typing import Any

Raw = dict[str, Any]

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9_.-]*[A-Za-z0-9])?")


class RefusedError(Exception):
    """An error response of the API with a status."""

    def __init__(self, status: int, error: str):
        super().__init__(error)
        self.status = status


def parts(body: Raw) -> tuple[Raw, Raw]:
    if not isinstance(body.get("metadata"), dict):
        raise RefusedError(400, "Function metadata must be provided")
    if not isinstance(body.get("spec"), dict):
        raise RefusedError(500, "Timed out waiting for creation state to be set")
    if not _NAME.fullmatch(body["metadata"].get("name", "")):
        raise RefusedError(400, "Function name is not valid")
    return body["metadata"], body["spec"]


def version(function: Raw | None) -> int:
    return int(function["metadata"]["resourceVersion"]) if function else 0


def record(message: str) -> Raw:
    return {"time": time.time() * 1000, "level": "info", "name": "dashboard", "message": message}


def with_defaults(spec: Raw) -> Raw:
    """Return the spec with the defaults that Nuclio adds."""
    triggers = {
        name: {
            "class": "sync",
            "numWorkers": 1,
            "workerAvailabilityTimeoutMilliseconds": 10000,
            "workerTerminationTimeout": "10s",
            **trigger,
            "name": name,
        }
        for name, trigger in (spec.get("triggers") or {}).items()
    }
    if not any(trigger.get("kind") == "http" for trigger in triggers.values()):
        triggers["default-http"] = {"kind": "http", "name": "default-http", "numWorkers": 1}
    resources = {"requests": {"cpu": "25m", "memory": "1Mi"}, **(spec.get("resources") or {})}
    return {
        "eventTimeout": "",
        "minReplicas": 1,
        "maxReplicas": 1,
        "targetCPU": 75,
        "securityContext": {},
        "loggerSinks": [{"level": "debug"}],
        **spec,
        "version": -1,
        "alias": "latest",
        "imageHash": str(time.time_ns()),
        "triggers": triggers,
        "resources": resources,
    }


def representation(function: Raw) -> Raw:
    """Return a copy of the function for a response, without empty annotations."""
    reply: Raw = json.loads(json.dumps(function))
    if not reply["metadata"].get("annotations"):
        reply["metadata"].pop("annotations", None)
    return reply


def healthy(port: int) -> bool:
    try:
        url = f"http://127.0.0.1:{port}/__internal/health"
        with urllib.request.urlopen(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False


def log_of(name: str) -> str:
    result = subprocess.run(["docker", "logs", name], capture_output=True, text=True, check=False)
    return result.stdout + result.stderr
