"""The processor configuration of a revision, and warnings about settings without effect here."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from fnbuild.builder import processor_settings
from fnbuild.builder.interpreter import missing_base_image
from fnbuild.builder.requirements import Requirements
from fnbuild.function.types import Function, Raw
from fnbuild.names import CODE_FOLDER, DEFAULT_NAMESPACE
from fnbuild.platforms import FunctionKey, gpu_groups
from fnbuild.platforms.process.layout import models_dir, recording_dir
from fnbuild.platforms.settings import GPU_RESOURCE, allowed_hosts, warnings_without_cluster
from fnbuild.runtime.access.credentials import VARIABLE, at_rest
from fnbuild.runtime.storage.uris import URI_VARIABLE


@dataclass(frozen=True, slots=True)
class RevisionPaths:
    """The paths of a revision: code folder, interpreter of its workers, folder of nuclio_sdk."""

    number: int
    code: str
    interpreter: str
    sdk: str | None


def processor_config(function: Function, paths: RevisionPaths) -> Raw:
    """Return the processor's configuration without listeners, which the supervisor adds."""
    config = processor_settings.processor_settings(function, paths.number)
    config["log"]["format"] = "json"
    gpu_groups.add_group(config, function)
    if record := config.get("record"):
        record["folder"] = str(recording_dir(_key_of(function)))
    return config | {
        "code": paths.code,
        "mount": CODE_FOLDER,
        "immutable": True,
        "interpreter": paths.interpreter,
        "env": _environment(function),
        "sdk_path": paths.sdk,
        "models": _model_folder(function),
        "accept": "immediately",
        "allowed_hosts": allowed_hosts(function),
    }


def _model_folder(function: Function) -> str | None:
    """Return the folder for the function's model; each URI has its own."""
    uri = _environment(function).get(URI_VARIABLE)
    if not uri:
        return None
    return str(models_dir(_key_of(function)) / hashlib.sha256(uri.encode()).hexdigest()[:16])


def _key_of(function: Function) -> FunctionKey:
    metadata = function.metadata
    return FunctionKey(metadata.namespace or DEFAULT_NAMESPACE, metadata.name)


def _environment(function: Function) -> dict[str, str]:
    return {
        variable.name: at_rest(variable.value) if variable.name == VARIABLE else variable.value
        for variable in function.spec.env
        if variable.value_from is None
    }


def platform_warnings(function: Function, requirements: Requirements) -> tuple[str, ...]:
    """Return warnings about settings and build lines that have no effect on this platform."""
    warnings = []
    if requirements.ignored:
        lines = "; ".join(str(line) for line in requirements.ignored)
        warnings.append(f"these build lines need a container and are left out here: {lines}")
    if image := missing_base_image(function):
        warnings.append(
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
    # The GPU limit has an effect: a redeploy stops the old processor before it starts the new one.
    return (*warnings, *warnings_without_cluster(function, "process", more, (GPU_RESOURCE,)))
