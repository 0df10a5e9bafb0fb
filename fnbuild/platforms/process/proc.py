"""Processes as the kernel shows them in /proc."""

from __future__ import annotations

from pathlib import Path


def _fields(pid: int) -> list[str]:
    """Return the fields of /proc/PID/stat from the state on; empty if the process has ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return []
    # The name before the state may contain anything, blanks and brackets included.
    return text.rpartition(")")[2].split()


def state(pid: int) -> str:
    """Return the kernel's letter for the state of the process, "X" if it has ended."""
    fields = _fields(pid)
    return fields[0] if fields else "X"


def runs(pid: int) -> bool:
    """Return True if the process has not ended; a zombie has."""
    return state(pid) not in ("Z", "X")


def is_stopped(pid: int) -> bool:
    """Return True if a signal or a debugger holds the process."""
    return state(pid) in ("T", "t")


def cpu_ticks(pid: int) -> int:
    """Return the CPU time of the process in clock ticks."""
    fields = _fields(pid)
    return int(fields[11]) + int(fields[12]) if len(fields) > 12 else 0
