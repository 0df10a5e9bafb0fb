"""The machine and the programs that were measured."""

from __future__ import annotations

import os
import platform
import subprocess
import timeit
from pathlib import Path
from typing import Any

from . import environments, load
from .catalog import ROOT, Catalog

_TURNS = 1_000_000
_LOOP = f"total = 0\nfor number in range({_TURNS}): total += number"


def collect_facts(catalog: Catalog) -> dict[str, Any]:
    """Return facts for the header of the results."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name"),
        "cores": len(os.sched_getaffinity(0)),
        "memory_gib": round(int(_field("/proc/meminfo", "MemTotal").split()[0]) / 1048576, 1),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "python_loop_ns": _loop_nanoseconds(),
        "libc": " ".join(platform.libc_ver()),
        "generator": load.generator(),
        "load_at_start": os.getloadavg()[0],
        "commit": _commit(),
        "workers": catalog.workers,
        "versions": {
            name: environments.versions(environment)
            for name, environment in catalog.environments.items()
            if environments.environment_problem(environment) is None
        },
    }


def _loop_nanoseconds() -> float:
    """Return the nanoseconds of one iteration of a plain loop in Python.

    The compilation of the interpreter changes it by a third, and is not always visible in its
    settings.
    """
    return round(min(timeit.repeat(_LOOP, number=1, repeat=5)) / _TURNS * 1e9, 1)


def _field(path: str, name: str) -> str:
    for line in Path(path).read_text().splitlines():
        key, _, value = line.partition(":")
        if key.strip() == name:
            return value.strip()
    return "unknown"


def _commit() -> str:
    """The checkout's commit, with a `+` when files differ from it."""
    named = _git("rev-parse", "--short", "HEAD")
    return named + ("+" if _git("status", "--porcelain", "--", "fnbuild", "bench") else "")


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=ROOT, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
