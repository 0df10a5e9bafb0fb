"""Run pip: select the program and its environment, and report its output."""

from __future__ import annotations

import importlib.metadata
import os
import re
import subprocess
import sys
from collections import deque
from collections.abc import Mapping, Sequence
from functools import cache

from fnbuild.builder.interpreter import Interpreter
from fnbuild.errors import BuildError
from fnbuild.function.secret_detection import mask_userinfo
from fnbuild.progress import Progress

_PROGRESS_LINE = re.compile(
    r"\s*(Collecting|Downloading|Building wheel for|Cloning|Installing collected packages:"
    r"|Successfully installed) ?(.*)"
)
_KEPT_LINES = 400
_TAIL_LINES = 15
_PROGRESS_LENGTH = 160
# Each of these makes pip install elsewhere or run another interpreter.
_REMOVED_VARIABLES = (
    "PIP_TARGET",
    "PIP_PREFIX",
    "PIP_ROOT",
    "PIP_PYTHON",
    "PIP_REQUIRE_VIRTUALENV",
)


@cache
def own_pip_version() -> tuple[int, int] | None:
    """Return the version of the pip that is installed with fnbuild, or None."""
    try:
        version = importlib.metadata.version("pip")
    except importlib.metadata.PackageNotFoundError:
        return None
    match = re.match(r"(\d+)\.(\d+)", version)
    return (int(match[1]), int(match[2])) if match else None


@cache
def own_pip_supports(version: tuple[int, int]) -> bool:
    """Return True if fnbuild's pip can install for another interpreter of that version."""
    own = own_pip_version()
    if own is None or own < (22, 3):  # the first with --python
        return False
    needs = importlib.metadata.metadata("pip").json.get("requires_python", "")
    match = re.search(r">=\s*(\d+)\.(\d+)", str(needs))
    return match is not None and version >= (int(match[1]), int(match[2]))


def own_pip_command() -> list[str]:
    """Return the command line of fnbuild's pip."""
    return [sys.executable, "-I", "-m", "pip"]


def pip_command(python: str, interpreter: Interpreter) -> list[str]:
    """Return the pip command line for the environment whose interpreter is `python`."""
    if own_pip_supports(interpreter.version[:2]):
        return [*own_pip_command(), "--python", python]
    return [python, "-I", "-m", "pip"]


def pip_environment() -> dict[str, str]:
    """Return the caller's environment variables without those that redirect pip."""
    variables = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith("PYTHON") and name not in (*_REMOVED_VARIABLES, "VIRTUAL_ENV")
    }
    return variables | {
        "PIP_USER": "0",
        "PIP_NO_INPUT": "1",
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_PROGRESS_BAR": "off",
        "PYTHONUNBUFFERED": "1",
    }


def run_pip(
    command: Sequence[str],
    what: str,
    progress: Progress,
    folder: str,
    written: Mapping[str, Sequence[str]] | None = None,
) -> None:
    """Run pip in `folder`. Raises `BuildError` with pip's output if it fails.

    `what` begins the error message with what cannot be done. `written` maps files that were written
    for pip to the author's place of each line.
    """
    lines: deque[str] = deque(maxlen=_KEPT_LINES)
    errors: list[str] = []
    try:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=pip_environment(),
            cwd=folder,
            text=True,
            errors="replace",
        )
    except OSError as error:
        raise BuildError(f"cannot run {command[0]}: {error.strerror}") from error
    assert process.stdout is not None
    with process:
        try:
            for raw_line in process.stdout:
                line = _with_author_places(mask_userinfo(raw_line.rstrip()), written or {})
                lines.append(line)
                if re.match(r"\s*(ERROR|error):", line):
                    errors.append(line.strip())
                match = _PROGRESS_LINE.match(line)
                if match:
                    subject = re.sub(r" \(from .*", "", match[2])
                    progress(f"pip: {match[1]} {subject}"[:_PROGRESS_LENGTH])
        except BaseException:
            process.kill()
            raise
    if process.returncode != 0:
        raise _pip_error(what, errors, list(lines))


def _pip_error(what: str, errors: list[str], lines: list[str]) -> BuildError:
    reasons = list(dict.fromkeys(errors))
    tail = [line for line in lines[-_TAIL_LINES:] if line.strip() and line.strip() not in reasons]
    detail = "\n".join([*reasons, *tail])
    text = "\n".join(lines)
    hint = "the lines above are pip's own"
    if re.search(r"NewConnectionError|Name or service not known|Temporary failure in name", text):
        hint = "pip could not reach its package index: connect this machine, or set PIP_INDEX_URL"
    elif "No space left on device" in text:
        hint = "free some space, or set FNBUILD_DATA_DIR to a directory on another disk"
    elif "No matching distribution" in text:
        hint = "check the name and the version, and that it has packages for this Python"
    return BuildError(f"{what}: {_best_error_line(reasons)}", detail=detail, hint=hint)


def _best_error_line(errors: list[str]) -> str:
    """Return the error line that explains most; pip's first one often states a side issue."""
    lines = [re.sub(r"^(ERROR|error):\s*", "", line) for line in errors]
    best = [line for line in lines if line.startswith("No matching distribution")]
    rest = [line for line in lines if not line.startswith("Ignored the following")]
    return next(iter([*best, *rest, *lines]), "pip failed")


def _with_author_places(line: str, written: Mapping[str, Sequence[str]]) -> str:
    """Replace places in files that were written for pip by places in the author's files."""
    for path, places in written.items():
        if path not in line:
            continue
        name = re.escape(path)
        for pattern in (rf"line (\d+) of {name}", rf"-r {name} \(line (\d+)\)", rf"{name}:(\d+)"):
            for match in reversed(list(re.finditer(pattern, line))):
                number = min(int(match[1]), len(places))
                line = line[: match.start()] + places[number - 1] + line[match.end() :]
        line = line.replace(path, places[0].partition(":")[0])
    return line
