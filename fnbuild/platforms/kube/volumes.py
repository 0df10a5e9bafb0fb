"""What is mounted into a function's pods, and where."""

from __future__ import annotations

from dataclasses import dataclass

from fnbuild.errors import InputError
from fnbuild.platforms.kube import labels
from fnbuild.platforms.kube.hardening import hardened
from fnbuild.spec.types import Function, Raw

PROCESSOR = "processor-config-volume"
"""Nuclio's name of the volume that holds the processor's configuration."""
_SCRATCH = "fnbuild-tmp"
_TMP = "/tmp"  # noqa: S108 - inside the container


@dataclass(frozen=True, slots=True)
class Volumes:
    """The pod's volumes and the mounts of the function's container. `left_out` are the names of
    host paths, which are not mounted.
    """

    volumes: tuple[Raw, ...]
    mounts: tuple[Raw, ...]
    left_out: tuple[str, ...] = ()


def volumes_of(function: Function) -> Volumes:
    """The user's by name, as Nuclio orders them, then fnbuild's own.

    Paths of a node are left out, as in Nuclio (pkg/platform/kube/functionres/lazy.go): a pod may
    run on any node. Raises `InputError` where a volume or its mount is not whole.
    """
    volumes: dict[str, Raw] = {}
    mounts: list[Raw] = []
    left_out: list[str] = []
    for number, item in enumerate(function.spec.volumes):
        volume, mount = item.get("volume") or {}, item.get("volumeMount") or {}
        name = volume.get("name") or mount.get("name")
        if not name or not mount.get("mountPath"):
            raise InputError(
                f"spec.volumes[{number}] needs a name and a volumeMount.mountPath",
                hint="as in `volumeMount: {name: weights, mountPath: /weights}`",
            )
        if "hostPath" in volume:
            left_out.append(f"{name} ({(volume['hostPath'] or {}).get('path', '')})")
            continue
        own = name in (PROCESSOR, _SCRATCH)
        if own or volumes.setdefault(name, {"name": name, **volume}) != {"name": name, **volume}:
            raise InputError(f"spec.volumes[{number}]: {name!r} is another volume already")
        mounts.append({"name": name, **mount})
    found = [volumes[name] for name in sorted(volumes)]
    mounts.sort(key=lambda mount: str(mount["name"]))
    if hardened(function) and not any(one["mountPath"] == _TMP for one in mounts):
        found.append({"name": _SCRATCH, "emptyDir": {}})
        mounts.append({"name": _SCRATCH, "mountPath": _TMP})
    found.append(_processor())
    mounts.append(
        {"name": PROCESSOR, "mountPath": "/etc/nuclio/config/processor", "readOnly": True}
    )
    return Volumes(tuple(found), tuple(mounts), tuple(left_out))


def _processor() -> Raw:
    """The configuration comes from the pod's own annotation, so that every pod keeps the one it
    was made with, however many revisions come after it.
    """
    field = {"apiVersion": "v1", "fieldPath": f"metadata.annotations['{labels.PROCESSOR}']"}
    return {
        "name": PROCESSOR,
        "downwardAPI": {"items": [{"path": "processor.json", "fieldRef": field}]},
    }
