"""Whether functions can run as processes on this machine: what `fnbuild doctor` says of it."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator

import fnbuild
from fnbuild.errors import UnavailableError
from fnbuild.platforms import Finding, checks
from fnbuild.platforms.addresses import LOOPBACK
from fnbuild.platforms.checks import Check, run_checks
from fnbuild.platforms.process import function_state, supervisor_client
from fnbuild.platforms.process.layout import supervisor_log
from fnbuild.store import Store

_AREA = "process"
_MOUNT_PATH = "/opt/nuclio"
# In a process of its own: whoever has entered a mount namespace does not get out again.
_MOUNT_PROBE = (
    "import sys\n"
    "from fnbuild.runtime.worker import mount\n"
    "print(mount.mount_folder(sys.argv[1], sys.argv[2], True) or '', end='')\n"
)
_MOUNT_PROBE_SECONDS = 10.0


def examine(areas: Collection[str] = ()) -> Iterator[Finding]:
    """All that can be said, one by one."""
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
        import venv  # noqa: F401  Debian has it in a package of its own
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
        troubles = function_state.platform_notices(store.functions())
    for text in troubles:
        message, _, remedy = text.partition("; ")
        yield Finding(_AREA, "warning", message, f"{remedy}; {supervisor_log()} says why it ended")
    if not troubles:
        yield Finding(_AREA, "ok", "no function is to run, so no supervisor does")


def _check_ports() -> Iterator[Finding]:
    try:
        with socket.create_server((LOOPBACK, 0)) as listening:
            listening.settimeout(2)
            port = listening.getsockname()[1]
            with socket.create_connection((LOOPBACK, port), timeout=2):
                listening.accept()[0].close()
    except OSError as error:
        yield Finding(
            _AREA,
            "failure",
            f"a port of {LOOPBACK} cannot be listened on and called: {error}",
            "see that the interface `lo` is up and that no firewall filters it",
        )
        return
    yield Finding(_AREA, "ok", f"ports of {LOOPBACK} can be listened on and called")


def _check_mount() -> Iterator[Finding]:
    with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
        try:
            done = subprocess.run(
                [sys.executable, "-c", _MOUNT_PROBE, folder, _MOUNT_PATH],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=_MOUNT_PROBE_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            refusal = str(error)
        else:
            refusal = done.stdout or (done.stderr.strip().splitlines() or [""])[-1]
    if not refusal:
        yield Finding(_AREA, "ok", f"workers see their folder as {_MOUNT_PATH}")
        return
    yield Finding(
        _AREA,
        "warning",
        f"the kernel allows workers no mount namespace ({refusal}): Python alone sees"
        f" {_MOUNT_PATH}, libraries in C do not",
        "allow user namespaces (`sysctl kernel.unprivileged_userns_clone=1`, on Ubuntu"
        " `sysctl kernel.apparmor_restrict_unprivileged_userns=0`), or let code name files by"
        " their place beside main.py",
    )
