"""The folders of GPU groups on this machine, see `fnbuild.runtime.groups`.

    gpu-groups/NAME/    in the data directory; the parent is private

The members may run as different users, also in containers. So the folder of a group is open to
every user that is given it: by its mount in a container, or by an open descriptor.
"""

from __future__ import annotations

from contextlib import closing
from pathlib import Path

from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import InputError, StoreError
from fnbuild.function.gpu_group_settings import (
    AWAKE,
    BUDGET,
    GROUP,
    NEED,
    PERMANENT,
    GroupSettings,
    annotation_path,
    group_settings,
)
from fnbuild.function.types import Function, Raw
from fnbuild.names import DEFAULT_NAMESPACE
from fnbuild.runtime.groups.folder import GroupFolder
from fnbuild.runtime.groups.group import Group, Member


def ensure_group_folder(name: str) -> Path:
    """Return the folder of the group, which is created if it does not exist."""
    folder = make_private_dir(data_dir() / "gpu-groups") / name
    try:
        folder.mkdir(exist_ok=True)
        if folder.stat().st_mode & 0o777 != 0o777:
            folder.chmod(0o777)
    except OSError as error:
        raise StoreError(f"the folder {folder} of the GPU group cannot be used: {error}") from error
    return folder


def add_group(config: Raw, function: Function, folder: str = "", instance: str = "") -> None:
    """Add the function's group, if any, to the configuration of its processor.

    `folder` is that of the group for the processor, by default its path on this machine. `instance`
    identifies the revision: a processor that starts again begins asleep.
    """
    settings = group_settings(function)
    if settings is not None:
        folder = folder or str(ensure_group_folder(settings.name))
        config["sleep"] = (config.get("sleep") or {}) | {
            "group": settings.to_processor(folder, instance)
        }


def check_group(function: Function) -> None:
    """Raise `InputError` if the group's running members leave the function no room, or vice versa.

    Only one function has to set the limits of its group; others must not contradict it.
    """
    settings = group_settings(function)
    if settings is None:
        return
    path = ensure_group_folder(settings.name)
    try:
        with closing(GroupFolder(str(path))) as folder:
            group = folder.read()
    except OSError as error:
        raise StoreError(f"the folder {path} of the GPU group cannot be used: {error}") from error
    namespace = function.metadata.namespace or DEFAULT_NAMESPACE
    own = f"{namespace}/{function.metadata.name}"
    group.members = {key: m for key, m in group.members.items() if m.function != own}
    _check_limits(settings, group)
    need = settings.need or group.measured.get(own)
    group.members[own] = Member(
        own, awake=settings.awake, memory=settings.memory, need=need, permanent=settings.permanent
    )
    _check_room(settings, group, own)


def _check_limits(settings: GroupSettings, group: Group) -> None:
    for member in group.members.values():
        for key, own, other in (
            (AWAKE, settings.awake, member.awake),
            (BUDGET, settings.memory, member.memory),
        ):
            if own and other and own != other:
                raise _invalid(
                    key,
                    f"{own} contradicts {member.function}, which sets {other} for the group"
                    f" {settings.name}",
                    "set the limit in one function of the group, or the same in all",
                )


def _check_room(settings: GroupSettings, group: Group, own: str) -> None:
    where = f"the group {settings.name} has no room for"
    if obstacle := group.permanent_obstacle(own):
        key = NEED if settings.need else PERMANENT if settings.permanent else GROUP
        hint = f"increase {BUDGET} or {AWAKE}, or let other members sleep"
        raise _invalid(key, f"{where} the function: {obstacle}", hint)
    for name, member in group.members.items():
        if obstacle := group.permanent_obstacle(name):
            key = PERMANENT if settings.permanent else BUDGET
            raise _invalid(
                key,
                f"{where} {member.function}, which could never be awake again: {obstacle}",
                f"increase {BUDGET} or {AWAKE}, or leave out {PERMANENT}",
            )


def _invalid(key: str, message: str, hint: str) -> InputError:
    return InputError(f"{'.'.join(annotation_path(key))}: {message}", hint=hint)
