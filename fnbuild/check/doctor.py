"""`fnbuild doctor`: what this machine, its engines, a registry and the platforms have to say.

What belongs to no platform is looked at here; every platform examines itself.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import fnbuild
from fnbuild.check.trial import BUILD_SECONDS, PUSH_SECONDS, Trial
from fnbuild.datadir import data_dir
from fnbuild.errors import UsageError
from fnbuild.platforms import Finding, Platform, lookup
from fnbuild.platforms.checks import AREAS, Check, check_disk_space, is_selected, run_checks
from fnbuild.platforms.kubeclient import connection

_CLUSTERS = ("kube", "nuclio")
_SKEW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Asked:
    """What is to be examined.

    Without a `platform` all that are there are; `namespace` tells a platform's. `run_registry` is
    the registry as the cluster knows it, if that differs. Without `areas`, all.
    """

    namespace: Callable[[str], str]
    platform: str = ""
    registry: str = ""
    run_registry: str = ""
    areas: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        for area in sorted(self.areas - AREAS.keys()):
            raise UsageError(f'nothing is called "{area}"', hint=f"one of: {', '.join(AREAS)}")


def examine(asked: Asked) -> Iterator[Finding]:
    """All findings, one by one as they are made."""
    platforms = [lookup(asked.platform)] if asked.platform else list(_there(asked.areas))
    yield from run_checks((Check("clock", clock), Check("disk", disk)), asked.areas)
    trial = Trial(asked.registry, asked.run_registry, needed=bool(asked.platform))
    try:
        if asked.platform != "process":
            yield from _images(
                trial, asked, clusters=any(one.name in _CLUSTERS for one in platforms)
            )
        for platform in platforms:
            yield from platform.examine(
                asked.namespace(platform.name),
                areas=asked.areas,
                image=trial.pushed,
                architecture=trial.architecture,
            )
        if not asked.platform and not connection.is_configured():
            yield from _no_cluster(asked.areas)
    finally:
        kept = trial.remove()
    if kept is not None:
        yield kept


def _there(areas: frozenset[str]) -> Iterator[Platform]:
    """The platforms that can be examined without having been asked for."""
    yield lookup("process")
    containers = lookup("local")
    if is_selected(areas, "docker", "gpu", "disk") and not _silent(containers):
        yield containers
    if connection.is_configured():
        yield lookup("kube")


def _silent(platform: Platform) -> bool:
    def troubles() -> list[Finding]:
        return [Finding("docker", "skipped", text) for text in platform.problems()]

    return any(run_checks((Check("docker", troubles),)))


def _no_cluster(areas: frozenset[str]) -> Iterator[Finding]:
    if is_selected(areas, "kubeconfig", "rights", "nodes", "node-ports", "storage"):
        yield Finding(
            "kubeconfig",
            "skipped",
            "no cluster is configured here, so none was looked at",
            "name one by --kubeconfig or KUBECONFIG, or write ~/.kube/config",
        )


def _images(trial: Trial, asked: Asked, *, clusters: bool) -> Iterator[Finding]:
    """Whether images can be built, and pushed when a registry is named."""
    areas = asked.areas
    pushing = bool(asked.registry) and is_selected(areas, "registry")
    if is_selected(areas, "engine") or pushing or (clusters and is_selected(areas, "nodes")):
        for finding in run_checks((Check("engine", trial.build, BUILD_SECONDS),)):
            if is_selected(areas, "engine") or (pushing and finding.state != "ok"):
                yield finding
    if pushing:
        yield from run_checks((Check("registry", trial.push, PUSH_SECONDS),))
    elif is_selected(areas, "registry") and (clusters or areas):
        yield Finding(
            "registry",
            "skipped",
            "no registry is named, so nothing was pushed or pulled",
            "`fnbuild doctor --registry REGISTRY`, or NUCTL_REGISTRY in the environment",
        )


def clock(now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Whether the time can be right: nothing here was written in the future."""
    written = Path(fnbuild.__file__).stat().st_mtime
    remedy = "let the machine keep its clock by NTP: `timedatectl set-ntp true`"
    here = now()
    if here < written:
        text = (
            f"this machine's clock is behind: it says {_moment(here)}, before fnbuild was installed"
        )
        yield Finding("clock", "failure", text, remedy)
        return
    with tempfile.NamedTemporaryFile(dir=data_dir(), prefix=".doctor-") as file:
        skew = os.fstat(file.fileno()).st_mtime - now()
    if abs(skew) > _SKEW_SECONDS:
        where = "ahead of" if skew > 0 else "behind"
        text = f"the disk of the data directory is {abs(skew):.0f} s {where} this machine's clock"
        yield Finding("clock", "warning", text, f"{remedy}, here and on the file server")
        return
    yield Finding("clock", "ok", f"this machine's clock says {_moment(here)}")


def _moment(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def disk() -> Iterator[Finding]:
    """Whether the data directory can be written to, and has room."""
    folder = data_dir()
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix=".doctor-") as file:
            file.write(bytes(4096))
            file.flush()
    except OSError as error:
        yield Finding(
            "disk",
            "failure",
            f"nothing can be written to the data directory {folder}: {error.strerror}",
            "give it back to this user and make room, or set FNBUILD_DATA_DIR to another folder",
        )
    remedy = "delete functions that nobody needs, or set FNBUILD_DATA_DIR to a folder elsewhere"
    yield check_disk_space("code and environments", folder, remedy)
    scratch = Path(tempfile.gettempdir())
    if scratch.stat().st_dev != folder.stat().st_dev:
        yield check_disk_space("what builds unpack", scratch, "make room there, or set TMPDIR")
