"""The peers' environments: one virtual environment each, created once below .cache/bench."""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Callable

from .catalog import Catalog, Environment, Server

_TIMEOUT = 1800.0
_MARK = "bench.json"


def install(environment: Environment, say: Callable[[str], None]) -> str | None:
    """Create the environment if necessary; return the reason if that fails."""
    if environment_problem(environment) is None:
        say(f"{environment.name}: there already")
        return None
    say(f"{environment.name}: installing {', '.join(environment.requirements)}")
    shutil.rmtree(environment.folder, ignore_errors=True)
    reason = _run([sys.executable, "-m", "venv", str(environment.folder)])
    if reason is None:
        pip = [str(environment.python), "-m", "pip", "install", "--quiet"]
        reason = _run([*pip, *environment.requirements])
    if reason is not None:
        say(f"{environment.name}: cannot be installed: {reason}")
        # Stored, so that a later run can report why this peer is missing.
        environment.folder.mkdir(parents=True, exist_ok=True)
    record = {"digest": _digest(environment), "problem": reason}
    (environment.folder / _MARK).write_text(json.dumps(record))
    return reason


def environment_problem(environment: Environment) -> str | None:
    """Return the reason why the environment cannot be used, or None."""
    if environment.borrowed is not None:
        return None
    try:
        record = json.loads((environment.folder / _MARK).read_text())
    except (OSError, ValueError):
        return "its environment is not installed (python -m bench install)"
    if record["digest"] != _digest(environment):
        return "its environment is out of date (python -m bench install)"
    problem: str | None = record["problem"]
    return problem


def server_problem(server: Server, catalog: Catalog) -> str | None:
    """Return the reason why the server cannot be started, or None."""
    for program in server.needs:
        if shutil.which(program) is None:
            return f"{program} is not installed"
    return environment_problem(catalog.environments[server.environment])


def versions(environment: Environment) -> dict[str, str]:
    """Return every package in the environment with its release."""
    command = [str(environment.python), "-m", "pip", "list", "--format=json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    if listed.returncode != 0:
        return {}
    return {package["name"].lower(): package["version"] for package in json.loads(listed.stdout)}


def _digest(environment: Environment) -> str:
    text = "\n".join([sys.version, *environment.requirements])
    return hashlib.sha256(text.encode()).hexdigest()


def _run(command: list[str]) -> str | None:
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_TIMEOUT
        )
    except subprocess.TimeoutExpired:
        return f"it took longer than {_TIMEOUT:.0f} s"
    if done.returncode == 0:
        return None
    lines = [line for line in done.stderr.splitlines() if line.startswith("ERROR")]
    return "; ".join(lines[-3:]) or done.stderr.strip()[-300:] or f"exit status {done.returncode}"
