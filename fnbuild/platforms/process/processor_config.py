"""What a function's configuration means on this platform: where its processor is, and which keys
have no effect.
"""

from __future__ import annotations

from dataclasses import dataclass

from fnbuild.builder import processor_settings
from fnbuild.builder.interpreter import unused_base_image
from fnbuild.builder.requirements import Requirements
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.settings import CODE_MOUNT_PATH, GPU_RESOURCE, warnings_without_cluster


@dataclass(frozen=True, slots=True)
class RevisionPaths:
    """Where one revision lives: code folder, interpreter of its workers, folder of nuclio_sdk."""

    number: int
    code: str
    interpreter: str
    sdk: str | None


def processor_config(function: Function, place: RevisionPaths) -> Raw:
    """The processor's configuration but for its listeners, which the supervisor adds."""
    made = processor_settings.processor_settings(function, place.number)
    made["log"]["format"] = "json"
    return made | {
        "code": place.code,
        "mount": CODE_MOUNT_PATH,
        "immutable": True,
        "interpreter": place.interpreter,
        "env": _environment(function),
        "sdk_path": place.sdk,
        "accept": "immediately",
    }


def _environment(function: Function) -> dict[str, str]:
    return {one.name: one.value for one in function.spec.env if one.value_from is None}


def platform_warnings(function: Function, requirements: Requirements) -> tuple[str, ...]:
    """What the function asks for and does not get here, in as few sentences as possible."""
    found = []
    if requirements.ignored:
        lines = "; ".join(str(one) for one in requirements.ignored)
        found.append(f"these build lines need a container and are left out here: {lines}")
    if image := unused_base_image(function):
        found.append(
            f"the base image {image} is left out here: the function has only what its requirements"
            " name, unless NUCLIO_PYTHON_EXE_PATH names an interpreter of this machine"
        )
    spec = function.spec
    more = {
        "volumes": spec.volumes,
        "devices": spec.devices,
        "securityContext": spec.security_context,
        "hostIPC": spec.host_ipc,
        "platform.attributes.network": "network" in spec.platform.attributes,
    }
    # The GPU limit does count: it decides in which order a redeploy starts and stops things.
    return (*found, *warnings_without_cluster(function, "process", more, (GPU_RESOURCE,)))
