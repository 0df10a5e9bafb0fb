"""Checks of the process platform for `fnbuild doctor`."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator

import fnbuild
from fnbuild.errors import UnavailableError
from fnbuild.names import CODE_FOLDER
from fnbuild.platforms import Finding, checks
from fnbuild.platforms.addresses import LOOPBACK
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.process import function_state, supervisor_client
from fnbuild.platforms.process.layout import supervisor_log
from fnbuild.store import Store

_AREA = "process"
# Runs in its own process, since a process cannot leave a mount namespace.
_MOUNT_PROBE = (
    "import sys\n"
    "from fnbuild.runtime.worker import mount\n"
    "print(mount.mount_folder(sys.argv[1], sys.argv[2], True) or '', end='')\n"
)
_MOUNT_PROBE_SECONDS = 10.0


def examine(areas: Collection[str] = ()) -> Iterator[Finding]:
    """Run the checks and yield their findings."""
    all_checks = (
        Check(_AREA, _check_python),
        Check(_AREA, _check_supervisor),
        Check(_AREA, _check_ports),
        Check(_AREA, _check_mount),
        Check("gpu", lambda: [checks.check_gpus()]),
    )
    yield from run_checks(all_checks, areas)


def _check_python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    try:
        import venv  # noqa: F401  Debian has it in a separate package
    except ImportError:
        yield Finding(
            _AREA,
            "warning",
            f"Python {version} ({sys.executable}) has no module venv, which requirements need",
            "on Debian: `apt install python3-venv`",
        )
        return
    yield Finding(_AREA, "ok", f"Python {version} ({sys.executable})")


def _check_supervisor() -> Iterator[Finding]:
    try:
        running = supervisor_client.running_supervisor()
    except UnavailableError as error:
        yield Finding(_AREA, "failure", error.message, error.hint or "")
        return
    if running is not None:
        text = f"the supervisor runs (pid {running.pid}, version {running.version})"
        if running.version != fnbuild.__version__:
            text += f"; the next deploy hands its functions over to {fnbuild.__version__}"
        yield Finding(_AREA, "ok", text)
        return
    with Store.open() as store:
        problems = function_state.platform_problems(store.functions())
    for text in problems:
        message, _, remedy = text.partition("; ")
        yield Finding(
            _AREA, "warning", message, f"{remedy}; {supervisor_log()} has the reason of its end"
        )
    if not problems:
        yield Finding(_AREA, "ok", "no supervisor runs, since no function should run")


def _check_ports() -> Iterator[Finding]:
    try:
        with socket.create_server((LOOPBACK, 0)) as listener:
            listener.settimeout(2)
            port = listener.getsockname()[1]
            with socket.create_connection((LOOPBACK, port), timeout=2):
                listener.accept()[0].close()
    except OSError as error:
        yield Finding(
            _AREA,
            "failure",
            f"listening on {LOOPBACK} and connecting to it failed: {error}",
            "check that the interface `lo` is up and that no firewall filters it",
        )
        return
    yield Finding(_AREA, "ok", f"functions can listen on {LOOPBACK}")


def _check_mount() -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-c", _MOUNT_PROBE, folder, CODE_FOLDER],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_MOUNT_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            reason = str(error)
        else:
            reason = done.stdout or (done.stderr.strip().splitlines() or [""])[-1]
    if not reason:
        yield Finding(_AREA, "ok", f"workers see their folder as {CODE_FOLDER}")
        return
    yield Finding(
        _AREA,
        "warning",
        f"the kernel does not allow workers a mount namespace ({reason}): {CODE_FOLDER} exists for"
        " Python code only, not for C libraries",
        "allow user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu"
        " `sysctl kernel.apparmor_restrict_unprivileged_userns=0`), or use paths relative"
        " to main.py in the code",
    )
