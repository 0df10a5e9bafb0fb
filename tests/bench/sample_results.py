"""Results files as the bench writes them, made by hand."""

from __future__ import annotations

from typing import Any

SERVERS = {"limit": "limit", "fnbuild": "fnbuild", "flask": "flask + gunicorn", "kserve": "kserve"}


def one_slice(server: str, number: int, rate: float, **more: Any) -> dict[str, Any]:
    """One slice of the jpeg workload at concurrency 8 unless `more` says otherwise."""
    return {
        "server": server,
        "workload": "jpeg",
        "concurrency": 8,
        "seconds": 3,
        "round": number,
        "requests": int(rate),
        "rate": rate,
        "p50": 1000.0 / rate,
        "p99": 2000.0 / rate,
        "cpu_ms": 1.5,
        "load": 0.5,
        **more,
    }


def results(*slices: dict[str, Any], **more: Any) -> dict[str, Any]:
    """A whole file."""
    facts = {
        "cpu": "A processor",
        "cores": 2,
        "memory_gib": 8.0,
        "kernel": "6.1",
        "python": "3.11.7",
        "python_loop_ns": 40.5,
        "libc": "glibc 2.36",
        "generator": "wrk",
        "load_at_start": 0.1,
        "commit": "abc1234",
        "workers": 2,
        "versions": {"shared": {"flask": "3.1.3"}, "kserve": {"kserve": "0.21.0"}},
    }
    return {
        "command": "python -m bench run",
        "date": "2030-01-02 03:04 UTC",
        "seconds": 120.0,
        "facts": facts,
        "servers": SERVERS,
        "missing": {},
        "slices": list(slices),
        "lifecycle": [],
        **more,
    }
