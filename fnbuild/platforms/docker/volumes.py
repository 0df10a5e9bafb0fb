"""`spec.volumes` as bind mounts of the engine, and which kinds of volume it cannot have."""

from __future__ import annotations

import os
import posixpath
from dataclasses import dataclass

from fnbuild.errors import InputError
from fnbuild.spec.quantities import quantity
from fnbuild.spec.types import Function, Raw

# With these types Kubernetes refuses a path that is not there; the engine would make a folder.
_MUST_EXIST = ("Directory", "File", "Socket", "CharDevice", "BlockDevice")


@dataclass(frozen=True, slots=True)
class Volumes:
    """`binds` as `docker run --volume` takes them, `mounts` as bodies of the API."""

    binds: tuple[str, ...] = ()
    mounts: tuple[Raw, ...] = ()
    warnings: tuple[str, ...] = ()


def volumes_of(function: Function) -> Volumes:
    """The volumes that the engine can have; the others are named in `warnings`.

    Raises `InputError` for a path that cannot be mounted.
    """
    binds: list[str] = []
    mounts: list[Raw] = []
    left_out: list[str] = []
    for number, item in enumerate(function.spec.volumes):
        volume, mount = item.get("volume") or {}, item.get("volumeMount") or {}
        place = f"spec.volumes[{number}]"
        target = _absolute(mount.get("mountPath"), f"{place}.volumeMount.mountPath")
        if "hostPath" in volume:
            made = _path(volume["hostPath"] or {}, mount, target, place)
            if isinstance(made, str):
                binds.append(made)
            else:
                mounts.append(made)
        elif "emptyDir" in volume:
            mounts.append(_empty(volume["emptyDir"] or {}, target, place))
        else:
            kind = next((key for key in volume if key != "name"), "nothing")
            left_out.append(f"{mount.get('name') or number} ({kind})")
    text = "volumes of these kinds exist in clusters alone and are left out here: "
    warnings = (text + ", ".join(left_out),) if left_out else ()
    return Volumes(tuple(binds), tuple(mounts), warnings)


def missing(function: Function) -> tuple[str, ...]:
    """What this machine does not have of the paths to be mounted, and the engine will make."""
    found = []
    for bind in volumes_of(function).binds:
        source = bind.partition(":")[0]
        if not os.path.lexists(source):
            found.append(f"there is no {source} on this machine: the engine makes an empty folder")
    return tuple(found)


def _path(host: Raw, mount: Raw, target: str, place: str) -> str | Raw:
    """A bind, which makes a folder that is not there, or a mount, which does not."""
    source = _absolute(host.get("path"), f"{place}.volume.hostPath.path")
    if inner := mount.get("subPath"):
        source = _below(source, str(inner), f"{place}.volumeMount.subPath")
    read_only = bool(mount.get("readOnly"))
    if host.get("type") in _MUST_EXIST or ":" in source + target:
        return {"Type": "bind", "Source": source, "Target": target, "ReadOnly": read_only}
    return f"{source}:{target}{':ro' if read_only else ''}"


def _empty(given: Raw, target: str, place: str) -> Raw:
    """Scratch space; in memory it is the usual way to a larger /dev/shm."""
    if given.get("medium") != "Memory":
        return {"Type": "volume", "Target": target}
    mount: Raw = {"Type": "tmpfs", "Target": target}
    if text := given.get("sizeLimit"):
        try:
            mount["TmpfsOptions"] = {"SizeBytes": int(quantity(str(text)))}
        except ValueError as error:
            raise InputError(f"{place}.volume.emptyDir.sizeLimit: {error}") from None
    return mount


def _absolute(path: object, place: str) -> str:
    if not isinstance(path, str) or not path.startswith("/") or "\0" in path:
        raise InputError(
            f"{place}: {path!r} is no absolute path",
            hint="`--volume /on/the/machine:/in/the/container`",
        )
    return posixpath.normpath(path)


def _below(folder: str, inner: str, place: str) -> str:
    path = posixpath.normpath(posixpath.join(folder, inner))
    if inner.startswith("/") or not f"{path}/".startswith(f"{folder.rstrip('/')}/"):
        raise InputError(f"{place}: {inner!r} leads out of {folder}")
    return path
