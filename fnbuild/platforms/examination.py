"""How a platform is examined: checks that cannot hang, and of which none takes the others along.

A check is a function that gives findings one by one. It runs in a thread of its own, so that one
that waits for something dead ends in a finding that says so.
"""

from __future__ import annotations

import queue
import shutil
import threading
import time
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from fnbuild.errors import FnbuildError
from fnbuild.platforms.model import Finding

AREAS = {
    "clock": "the time here, on the API server and on the nodes",
    "disk": "room for code, environments and images",
    "engine": "the container engine that builds",
    "registry": "pushing an image, and pulling it from the cluster",
    "process": "Python, the supervisor, ports and /opt/nuclio on this machine",
    "docker": "the container engine that runs functions",
    "gpu": "GPUs here, in containers and on nodes",
    "kubeconfig": "which cluster, and whether it answers",
    "rights": "what this user may do in the namespace",
    "nodes": "whether nodes are ready, and fit the images",
    "node-ports": "reaching functions from this machine",
    "storage": "storage classes for volumes",
    "nuclio": "the Nuclio dashboard",
}
"""What can be looked at, and in a few words what that is."""

SECONDS = 20.0
"""How long a check may take unless it says otherwise."""

_LAST_WORDS_SECONDS = 8.0
_LOW_DISK = 5 << 30
_FULL_DISK = 512 << 20
_GIB = 1 << 30


@dataclass(frozen=True, slots=True)
class Check:
    """Looks at one area. A check that makes something removes it in the end of its generator."""

    area: str
    run: Callable[[], Iterable[Finding]]
    seconds: float = SECONDS


def wanted(areas: Collection[str], *some: str) -> bool:
    """Whether any of these is among the areas asked for; with none asked for, all are."""
    return not areas or not set(some).isdisjoint(areas)


def examined(
    checks: Iterable[Check],
    areas: Collection[str] = (),
    over: threading.Event | None = None,
) -> Iterator[Finding]:
    """The findings of the checks, in their order.

    `over` is set when nobody wants to hear more; checks that wait for something look at it, and get
    a moment to clear up.
    """
    for check in checks:
        if wanted(areas, check.area):
            yield from _run(check, over or threading.Event())


def _run(check: Check, over: threading.Event) -> Iterator[Finding]:
    told: queue.SimpleQueue[Finding | None] = queue.SimpleQueue()

    def work() -> None:
        try:
            for finding in check.run():
                told.put(finding)
        except Exception as error:  # noqa: BLE001 - one check that breaks must not end the others
            told.put(of_error(check.area, error))
        finally:
            told.put(None)

    worker = threading.Thread(target=work, name=f"check-{check.area}", daemon=True)
    worker.start()
    deadline = time.monotonic() + check.seconds
    try:
        while True:
            try:
                finding = told.get(timeout=max(0.0, deadline - time.monotonic()))
            except queue.Empty:
                yield Finding(
                    check.area,
                    "failure",
                    f"there was no answer within {check.seconds:g} s",
                    "see what keeps it busy, then try again",
                )
                return
            if finding is None:
                return
            yield finding
    except BaseException:
        over.set()
        worker.join(_LAST_WORDS_SECONDS)
        raise


def of_error(area: str, error: Exception) -> Finding:
    """The finding for a check that could not be made."""
    if isinstance(error, FnbuildError):
        message = error.message
        if error.detail and "\n" not in error.detail.strip():
            message = f"{message}: {error.detail.strip()}"
        return Finding(area, "failure", message, error.hint or "")
    summary = f"{type(error).__name__}: {error}".splitlines()[0]
    return Finding(area, "failure", f"this could not be looked at: {summary}")


def room(
    what: str,
    folder: Path | str,
    remedy: str,
    usage: Callable[[Path | str], tuple[int, int, int]] = shutil.disk_usage,
) -> Finding:
    """Whether the disk of a folder has room. `usage` gives total, used and free bytes."""
    try:
        total, _, free = usage(folder)
    except OSError as error:
        return Finding("disk", "warning", f"{what}: {folder}: {error.strerror}")
    text = f"{what}: {free / _GIB:.1f} of {total / _GIB:.1f} GiB free in {folder}"
    if free < _FULL_DISK:
        return Finding("disk", "failure", text, remedy)
    return (
        Finding("disk", "warning", text, remedy)
        if free < _LOW_DISK
        else Finding("disk", "ok", text)
    )
