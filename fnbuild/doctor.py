"""`fnbuild doctor`: examine this machine, its container engines, a registry and the platforms.

The checks of this module belong to no platform; every platform examines itself. A trial image
proves that an engine builds, a registry accepts and a cluster pulls. It has one small file with
random content, so that no cache has it, and no program.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import tempfile
import time
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import fnbuild
from fnbuild.builder.image.engine import BuildRequest, Engine
from fnbuild.builder.image.engines.selection import choose_engine
from fnbuild.builder.image.references import registry_of, with_registry
from fnbuild.datadir import data_dir
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.platforms import (
    NO_CONNECT_OPTIONS,
    ConnectOptions,
    Finding,
    Platform,
    all_platforms,
    lookup,
)
from fnbuild.platforms.checks import AREAS, Check, check_disk_space, is_selected, run_checks
from fnbuild.platforms.kubeclient import connection

_MAX_CLOCK_SKEW_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class DoctorOptions:
    """Options of the examination.

    Without a `platform`, all available platforms are examined; `namespace` returns the namespace of
    a platform. `run_registry` is the registry's name in the cluster, if it differs. Without
    `areas`, all areas are examined.
    """

    namespace: Callable[[str], str]
    platform: str = ""
    registry: str = ""
    run_registry: str = ""
    areas: frozenset[str] = frozenset()
    connect: ConnectOptions = NO_CONNECT_OPTIONS

    def __post_init__(self) -> None:
        for area in sorted(self.areas - AREAS.keys()):
            raise UsageError(f'unknown area "{area}"', hint=f"one of: {', '.join(AREAS)}")


def examine_system(options: DoctorOptions) -> Iterator[Finding]:
    """Yield all findings as they are made."""
    platforms = (
        [lookup(options.platform, options.connect)]
        if options.platform
        else [platform for platform in all_platforms(options.connect) if _is_available(platform)]
    )
    yield from run_checks((Check("clock", check_clock), Check("disk", check_disk)), options.areas)
    trial = TrialImage(options.registry, options.run_registry, needed=bool(options.platform))
    try:
        if not options.platform or platforms[0].artifact_kind == "image":
            yield from _check_images(
                trial,
                options,
                clusters=any(platform.pulls_images for platform in platforms),
            )
        for platform in platforms:
            yield from platform.examine(
                options.namespace(platform.name),
                areas=options.areas,
                image=trial.pushed,
                architecture=trial.architecture,
            )
        if not options.platform and not connection.is_configured(options.connect):
            yield from _report_no_cluster(options.areas)
    finally:
        kept = trial.remove()
    if kept is not None:
        yield kept


def _is_available(platform: Platform) -> bool:
    if not platform.needs_running_service:
        return True
    return platform.may_be_probed() and (platform.is_configured() or _answers(platform))


def _answers(platform: Platform) -> bool:
    """Return True if the platform's service answers in time."""

    def problems() -> list[Finding]:
        return [Finding(platform.name, "skipped", text) for text in platform.problems()]

    return not any(run_checks((Check(platform.name, problems),)))


def _report_no_cluster(areas: frozenset[str]) -> Iterator[Finding]:
    if is_selected(areas, "kubeconfig", "rights", "nodes", "node-ports", "storage"):
        yield Finding(
            "kubeconfig",
            "skipped",
            "no cluster is configured here, so none was looked at",
            "name one by --kubeconfig or KUBECONFIG, or write ~/.kube/config",
        )


def _check_images(
    trial: TrialImage, options: DoctorOptions, *, clusters: bool
) -> Iterator[Finding]:
    """Check that images can be built, and pushed if a registry is set."""
    areas = options.areas
    pushing = bool(options.registry) and is_selected(areas, "registry")
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


def check_clock(now: Callable[[], float] = time.time) -> Iterator[Finding]:
    """Check that the clock is not earlier than the times of this machine's files."""
    written = Path(fnbuild.__file__).stat().st_mtime
    remedy = "let the machine keep its clock by NTP: `timedatectl set-ntp true`"
    here = now()
    if here < written:
        time_here = _format_time(here)
        text = f"this machine's clock is behind: it says {time_here}, before fnbuild was installed"
        yield Finding("clock", "failure", text, remedy)
        return
    with tempfile.NamedTemporaryFile(dir=data_dir(), prefix=".doctor-") as file:
        skew = os.fstat(file.fileno()).st_mtime - now()
    if abs(skew) > _MAX_CLOCK_SKEW_SECONDS:
        where = "ahead of" if skew > 0 else "behind"
        text = f"the disk of the data directory is {abs(skew):.0f} s {where} this machine's clock"
        yield Finding("clock", "warning", text, f"{remedy}, here and on the file server")
        return
    yield Finding("clock", "ok", f"this machine's clock says {_format_time(here)}")


def _format_time(seconds: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(seconds))


def check_disk() -> Iterator[Finding]:
    """Check that the data directory is writable and has free space."""
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
    remedy = "delete unused functions, or set FNBUILD_DATA_DIR to a folder elsewhere"
    yield check_disk_space("code and environments", folder, remedy)
    scratch = Path(tempfile.gettempdir())
    if scratch.stat().st_dev != folder.stat().st_dev:
        yield check_disk_space(
            "temporary files of builds", scratch, "make room there, or set TMPDIR"
        )


BUILD_SECONDS = 120.0
PUSH_SECONDS = 60.0

_TRIAL_DOCKERFILE = "FROM scratch\nCOPY made /fnbuild-doctor\n"
_DELETE_SECONDS = 3.0


class TrialImage:
    """A trial image, from its build to its removal.

    `pushed` is the reference that nodes pull, "" before the push; its registry is `run_registry` if
    that is set. `architecture` is the engine's, such as `amd64`. A missing engine is a failure if
    it is `needed`.
    """

    def __init__(self, registry: str, run_registry: str, *, needed: bool) -> None:
        self._token = secrets.token_hex(6)
        self._registry = registry
        self._run_registry = run_registry
        self._needed = needed
        self._engine: Engine | None = None
        self._reference = ""
        self._digest = ""
        self.pushed = ""
        self.architecture = ""

    def build(self) -> Iterator[Finding]:
        """Build the image with the engine that `fnbuild build` uses."""
        try:
            engine = choose_engine()
        except UsageError:
            raise
        except FnbuildError as error:
            state: Literal["failure", "warning"] = "failure" if self._needed else "warning"
            yield Finding("engine", state, error.message, error.hint or "")
            return
        reference = self._name(self._registry, "--registry")
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            file = Path(folder, "Dockerfile")
            file.write_text(_TRIAL_DOCKERFILE)
            Path(folder, "made").write_text(self._token)
            self._engine, self._reference = engine, reference
            request = BuildRequest(
                Path(folder), file, (reference,), network="none", timeout=BUILD_SECONDS
            )
            engine.build(request, lambda _: None)
        facts = engine.inspect(reference)
        self.architecture = facts.architecture if facts else ""
        reason = f", since {engine.selection_reason}" if engine.selection_reason else ""
        text = f"{engine.name} builds images for linux/{self.architecture or '?'}{reason}"
        yield Finding("engine", "ok", text)

    def _name(self, registry: str, key: str) -> str:
        return with_registry(registry, f"fnbuild-doctor:{self._token}", key)

    def push(self) -> Iterator[Finding]:
        """Push the image, and remove it from the engine so that a pull transfers it."""
        engine = self._engine
        if engine is None or not self.architecture:
            yield Finding("registry", "skipped", "without an engine that builds nothing is pushed")
            return
        self._digest = engine.push(self._reference, lambda _: None)
        engine.remove(self._reference)
        name = self._name(self._run_registry or self._registry, "--run-registry")
        self.pushed = f"{name.rpartition(':')[0]}@{self._digest}" if self._digest else name
        yield Finding("registry", "ok", f"{engine.name} pushes to {self._registry}")

    def remove(self) -> Finding | None:
        """Remove the image everywhere; return a finding if the registry keeps it."""
        if self._engine is not None:
            with contextlib.suppress(FnbuildError):
                self._engine.remove(self._reference)
        if not self.pushed or self._delete_from_registry():
            return None
        return Finding(
            "registry",
            "ok",
            f"the registry deletes nothing unasked: it keeps {self._reference}, of a few bytes",
        )

    def _delete_from_registry(self) -> bool:
        """Return True if the registry removed the image. Most registries require a login."""
        host = registry_of(self._reference)
        path = self._reference.removeprefix(f"{host}/").rpartition(":")[0]
        for scheme in ("https", "http"):
            request = urllib.request.Request(  # noqa: S310 - one of the two above
                f"{scheme}://{host}/v2/{path}/manifests/{self._digest}", method="DELETE"
            )
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(request, timeout=_DELETE_SECONDS),  # noqa: S310
            ):
                return True
        return False
