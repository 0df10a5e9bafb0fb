"""The checks of the container engine by `fnbuild doctor`."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Collection, Iterator
from pathlib import Path

from fnbuild.function.types import Raw
from fnbuild.platforms import Finding, checks
from fnbuild.platforms.addresses import docker_gateway
from fnbuild.platforms.checks import Check, check_disk_space, is_selected, run_checks
from fnbuild.platforms.docker import inventory, recovery
from fnbuild.platforms.docker.engine import Engine

_AREA = "docker"
_NVIDIA_HOOK = "nvidia-container-runtime-hook"
_TOOLKIT_REMEDY = (
    "install the NVIDIA Container Toolkit, then `nvidia-ctk runtime configure --runtime=docker` and"
    " restart the engine"
)


def examine(connect: Callable[[], Engine], areas: Collection[str] = ()) -> Iterator[Finding]:
    """Yield the findings about the engine to which `connect` connects."""
    if not is_selected(areas, _AREA, "gpu", "disk"):
        return
    engines: list[Engine] = []

    def connects() -> Iterator[Finding]:
        engine = connect()
        findings = list(_check_engine(engine))
        engines.append(engine)
        yield from findings

    for finding in run_checks((Check(_AREA, connects),)):
        # The other checks need an engine and would only repeat the failure.
        if is_selected(areas, _AREA) or finding.state == "failure":
            yield finding
    if engines:
        [engine] = engines
        checks = (
            Check(_AREA, lambda: _check_changes(engine)),
            Check("gpu", lambda: _check_gpus(engine)),
            Check("disk", lambda: _check_disk(engine)),
        )
        yield from run_checks(checks, areas)


def _check_engine(engine: Engine) -> Iterator[Finding]:
    info = engine.info
    where = f"{info.get('OSType', 'linux')}/{info.get('Architecture', '?')}"
    yield Finding(_AREA, "ok", f"the engine {engine.version} answers at {engine.host} ({where})")
    if info.get("OSType", "linux") != "linux":
        yield Finding(
            _AREA,
            "failure",
            f"the engine runs {info['OSType']} containers, but functions need Linux containers",
            "switch the engine to Linux containers",
        )
    if engine.is_local and docker_gateway() is None:
        yield Finding(
            _AREA,
            "warning",
            "this machine has no interface docker0: other containers, such as CVAT's, cannot reach"
            " functions at host.docker.internal",
            "connect them to the network of the functions: spec.platform.attributes.network",
        )


def _check_changes(engine: Engine) -> Iterator[Finding]:
    """Report changes in progress, and clean up interrupted ones."""
    functions = inventory.list_all_functions(engine)
    for key, outcome in recovery.recover_interrupted(engine, functions).items():
        text = f"a change of {key} was interrupted: {outcome}"
        yield Finding(_AREA, "warning", text, f"`fnbuild get function {key.name}` shows it")
    for objects in inventory.list_all_functions(engine):
        for text in inventory.interruption_warnings(engine, objects):
            yield Finding(_AREA, "warning", text.partition(";")[0], text.partition("; ")[2])
        if change := inventory.describe_ongoing_change(engine, objects):
            yield Finding(_AREA, "ok", f"{objects.key} is {change}")


def _check_gpus(engine: Engine) -> Iterator[Finding]:
    if offers_gpus(engine.info) or (engine.is_local and shutil.which(_NVIDIA_HOOK)):
        yield Finding("gpu", "ok", "the engine can give GPUs to containers")
    elif engine.is_local and checks.pci_gpus():
        text = "this machine has a GPU, and the engine cannot give it to containers"
        yield Finding("gpu", "warning", text, _TOOLKIT_REMEDY)
    else:
        yield Finding("gpu", "ok", "the engine has no GPU to give: functions run on the CPU")


def offers_gpus(info: Raw) -> bool:
    """Return True if the engine has NVIDIA's runtime, or its GPUs by CDI."""
    devices = info.get("DiscoveredDevices") or ()
    return "nvidia" in (info.get("Runtimes") or {}) or any(
        str(device.get("ID", "")).startswith("nvidia.com/gpu") for device in devices
    )


def _check_disk(engine: Engine) -> Iterator[Finding]:
    root = str(engine.info.get("DockerRootDir") or "")
    if not engine.is_local or not root or not Path(root).exists():
        text = f"the engine's disk is not this machine's: {engine.host}"
        yield Finding("disk", "skipped", text)
        return
    remedy = "`docker system df` shows the usage, `docker image prune` removes unused images"
    yield check_disk_space("the engine's images", root, remedy)
