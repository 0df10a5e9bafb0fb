"""Leases: records of the process that holds the right to change a function.

A lock in the data directory ends with its process, but only processes of that data directory see
it. Platforms whose functions are shared (an engine, a cluster) therefore record the holder with the
function. This module describes holders; each platform stores them in its own way.
"""

from __future__ import annotations

import os
import socket
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from fnbuild.datadir import data_dir

_BOOT = Path("/proc/sys/kernel/random/boot_id")
_START_TIME = 19
"""Index of the start time among the fields of /proc/PID/stat that follow the program's name."""


def local_owner() -> str:
    """Return this machine and data directory, as in "HOST:DIR"."""
    return f"{socket.gethostname()}:{data_dir()}"


@dataclass(frozen=True, slots=True)
class LeaseHolder:
    """The process that changes a function.

    `started` identifies the process across reuse of its id: the boot of the machine, the namespace
    of process ids and the start time. It is empty if that is unknown. `participle` completes
    "is being …"; `since` is in seconds since the epoch.
    """

    owner: str = ""
    process: int = 0
    started: str = ""
    participle: str = "changed"
    since: float = 0.0

    def __str__(self) -> str:
        """Return a phrase such as "being deployed from HOST:DIR by process 12"."""
        by = f" by process {self.process}" if self.process else ""
        return f"being {self.participle} from {self.owner or 'elsewhere'}{by}"

    @property
    def is_this_process(self) -> bool:
        return (
            self.owner == local_owner() and self.process == os.getpid() and self._is_known_alive()
        )

    @property
    def has_ended(self) -> bool:
        """Return True only if the process is certain to have ended.

        A process of another machine, boot or container cannot be seen from here.
        """
        scope = _process_scope()
        return bool(scope) and self.started.startswith(scope) and not self._is_known_alive()

    def _is_known_alive(self) -> bool:
        return bool(self.started) and process_identity(self.process) == self.started

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def current_holder(participle: str, since: float) -> LeaseHolder:
    """Return this process as the holder of a lease."""
    pid = os.getpid()
    return LeaseHolder(local_owner(), pid, process_identity(pid), participle, round(since, 3))


def decode_holder(raw: dict[str, Any]) -> LeaseHolder:
    """Read a holder from untrusted JSON: fields of a wrong type are dropped."""
    defaults = LeaseHolder().to_dict()
    valid = {
        name: raw[name]
        for name, default in defaults.items()
        if isinstance(raw.get(name), (int, float) if isinstance(default, float) else type(default))
    }
    return LeaseHolder(**(defaults | valid))


def format_age(seconds: float) -> str:
    """Format an age: "12 s", "3 min", "2 h"."""
    seconds = max(0.0, seconds)
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.0f} h"


def _process_scope() -> str:
    """Identify the boot and the namespace of this process's ids; "" if that is unknown."""
    try:
        namespace = os.stat("/proc/self/ns/pid").st_ino
        return f"{_BOOT.read_text().strip()}/{namespace}/"
    except OSError:
        return ""


def process_identity(pid: int) -> str:
    """Identify a running process; "" if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_bytes().rpartition(b")")[2].split()
    except OSError:
        return ""
    scope = _process_scope()
    if not scope or fields[0] in (b"Z", b"X"):
        return ""
    return f"{scope}{fields[_START_TIME].decode()}"
