"""A user for every function, so that functions cannot read the files of one another.

`platform.yaml` in the data directory enables it:

    isolate: users                    # the default is none
    users: 1900000000-1900009999      # numbers of the users that functions run as

The supervisor stays root: it opens the sockets and the log, reads the configuration, and starts the
processor as the function's user. Paths that this user needs get the least access that works:
parent folders can be passed but not listed, a function's own folder belongs to its group, and all
users can read the environments and nuclio_sdk.
"""

from __future__ import annotations

import grp
import json
import os
import re
import stat
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import msgspec
import yaml

import fnbuild
from fnbuild.builder.grpc_packages import GrpcPython, own_system
from fnbuild.builder.interpreter import interpreter_at
from fnbuild.datadir import data_dir, function_dir, revision_dir
from fnbuild.errors import InputError, PlatformError, PreconditionError
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.clean_environment import clean_environment

CONFIG_FILE = "platform.yaml"
# Outside the ranges of login users and the defaults of systemd and container engines.
_DEFAULT_USERS = "1900000000-1900009999"
_RANGE = re.compile(r"(\d+)-(\d+)\Z")
_MAX_USER = (1 << 31) - 1


# Groups that own the devices of GPUs.
_GPU_GROUPS = ("video", "render")
_SYSTEM_PYTHONS = ("/usr/bin/python3", "/usr/local/bin/python3")
_PASS_ONLY = 0o711
# The XDG specification treats empty values as unset.
_XDG = ("XDG_CACHE_HOME", "XDG_DATA_HOME", "XDG_RUNTIME_DIR")


class _PlatformConfig(msgspec.Struct, forbid_unknown_fields=True):
    isolate: Literal["none", "users"] = "none"
    users: str = _DEFAULT_USERS


# Completes the type at import, as in fnbuild.platforms.processor_status.
msgspec.json.Decoder(_PlatformConfig)


def isolated_users() -> range | None:
    """Return the users that functions run as; None if they run as the supervisor's user.

    Raises `InputError` for an invalid file, and `PreconditionError` if users are to be isolated
    and this process is not root.
    """
    path = data_dir() / CONFIG_FILE
    settings = _read_config(path)
    if settings.isolate == "none":
        return None
    match = _RANGE.match(settings.users)
    first, last = (int(match[1]), int(match[2])) if match else (0, 0)
    if not 1000 <= first <= last <= _MAX_USER:
        raise InputError(
            f'{path}: users: "{settings.users}" is not a range of users',
            hint=f"two numbers from 1000 to {_MAX_USER}, as in {_DEFAULT_USERS}",
        )
    if os.geteuid() != 0:
        raise PreconditionError(
            f"{path} sets `isolate: users`, which requires root",
            hint="run it as root, or set `isolate: none` to run functions as your user",
        )
    return range(first, last + 1)


def _read_config(path: Path) -> _PlatformConfig:
    try:
        raw = yaml.safe_load(path.read_text())
        return msgspec.convert(raw or {}, _PlatformConfig)
    except FileNotFoundError:
        return _PlatformConfig()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InputError(
            f"{path}: {error}", hint="`isolate: users` or `isolate: none`, and `users: FIRST-LAST`"
        ) from error


@dataclass(frozen=True, slots=True)
class FunctionUser:
    """The user and group of one function. `groups` are the supplementary groups."""

    number: int
    home: Path
    groups: tuple[int, ...] = ()

    @property
    def environment(self) -> dict[str, str]:
        """Return variables that replace those of the supervisor's user."""
        variables = {"HOME": str(self.home), "TMPDIR": str(self.home / "tmp")}
        name = f"fnbuild-{self.number}"
        return variables | {"USER": name, "LOGNAME": name} | dict.fromkeys(_XDG, "")


@dataclass(frozen=True, slots=True)
class RuntimeCommand:
    """A module of the runtime as a process: its command line and its arguments for `Popen`."""

    arguments: list[str]
    options: dict[str, Any]


def runtime_command(user: FunctionUser | None, module: str, *arguments: str) -> RuntimeCommand:
    """Return the command that runs `fnbuild.runtime.MODULE` as the function's user, if any."""
    python, environment = sys.executable, clean_environment(os.environ)
    options: dict[str, Any] = {"cwd": "/", "start_new_session": True}
    if user is not None:
        python, environment = processor_python(), environment | user.environment
        options |= {"user": user.number, "group": user.number, "extra_groups": user.groups}
    command = [python, "-m", f"fnbuild.runtime.{module}", *arguments]
    return RuntimeCommand(command, options | {"env": environment})


def prepare_user(
    key: FunctionKey, revision: int, interpreter: str, *, gpu: bool
) -> FunctionUser | None:
    """Prepare the files of the revision for the function's user; None without isolation.

    Raises `PlatformError` if the user may not read something that it needs.
    """
    users = isolated_users()
    if users is None:
        return None
    number = _user_number(key, users)
    folder = function_dir(*key)
    for path in (data_dir(), folder.parent.parent, folder.parent):
        path.chmod(_PASS_ONLY)
    for path in (data_dir() / name for name in ("environments", "sdk", "grpc")):
        if path.is_dir():
            path.chmod(_PASS_ONLY)
    for path in (folder, folder / "revisions", revision_dir(*key, revision)):
        os.chown(path, 0, number)
        path.chmod(0o750)
    home = folder / "home"
    for path in (home, home / "tmp"):
        path.mkdir(mode=0o700, exist_ok=True)
        os.chown(path, number, number, follow_symlinks=False)
    for needed in (interpreter, fnbuild.__file__, str(folder.parent)):
        if closed := inaccessible_part(needed):
            raise PlatformError(
                f"the user of {key.name} ({number}) may not read {needed}: {closed} denies access",
                hint=f"`chmod o+rx {closed}`, or move fnbuild, Python and FNBUILD_DATA_DIR to"
                " folders that every user may read, such as /opt, /usr and /var/lib",
            )
    return FunctionUser(number, home, _gpu_groups() if gpu else ())


def is_interpreter_accessible(path: str) -> bool:
    """Return True if the functions' users may run the interpreter, or without isolation."""
    return isolated_users() is None or not inaccessible_part(path)


def inaccessible_part(path: str) -> str:
    """Return the part of `path` that other users may not read; "" if they may read it all."""
    for candidate in (Path(os.path.abspath(path)), Path(os.path.realpath(path))):
        for folder in reversed(candidate.parents):
            if not stat.S_IMODE(folder.stat().st_mode) & 0o001:
                return str(folder)
        # Execute permission is enough for a folder; a file must be readable.
        needed = 0o001 if candidate.is_dir() else 0o004
        if not stat.S_IMODE(candidate.stat().st_mode) & needed:
            return str(candidate)
    return ""


def processor_python() -> str:
    """Return an interpreter for processors that every user may run; else `PlatformError`."""
    interpreter = getattr(sys, "_base_executable", None) or sys.executable
    for path in (sys.executable, interpreter, *_SYSTEM_PYTHONS):
        if os.access(path, os.X_OK) and not inaccessible_part(path):
            return path
    raise PlatformError(
        f"the users of functions may not run {interpreter}, which is in"
        f" {inaccessible_part(interpreter)}",
        hint="install Python where every user may run it, such as /usr/bin",
    )


def grpc_python() -> GrpcPython:
    """Return the Python of processors, which is that of their gRPC servers."""
    version = sys.version_info[:2]
    if isolated_users() is not None and (python := interpreter_at(processor_python())) is not None:
        version = python.version[:2]
    return GrpcPython(version, own_system())


def _user_number(key: FunctionKey, users: range) -> int:
    """Return the function's user, which it keeps even if it is deleted and deployed again."""
    path = data_dir() / "users.json"
    try:
        numbers: dict[str, int] = json.loads(path.read_text())
    except FileNotFoundError:
        numbers = {}
    except (OSError, ValueError) as error:
        raise PlatformError(
            f"{path} cannot be read: {error}",
            hint="it assigns a user to each function; repair it, or remove it together with the"
            " `home` folders of all functions while none of them runs",
        ) from error
    name = f"{key.namespace}/{key.name}"
    number = numbers.get(name, 0)
    if number in users:
        return number
    used = set(numbers.values())
    number = next((user for user in users if user not in used), 0) or _reusable_number(numbers)
    if not number:
        raise PlatformError(
            f"every user from {users[0]} to {users[-1]} belongs to a function",
            hint=f"set a larger range in {data_dir() / 'platform.yaml'}",
        )
    numbers = {other: taken for other, taken in numbers.items() if taken != number}
    _write_numbers(path, numbers | {name: number})
    return number


def _reusable_number(numbers: dict[str, int]) -> int:
    """Return the user of a deleted function, 0 if there is none."""
    for name, number in numbers.items():
        if not function_dir(*name.split("/", 1)).exists():
            return number
    return 0


def _write_numbers(path: Path, numbers: dict[str, int]) -> None:
    draft = path.with_suffix(".new")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        json.dump(numbers, file, indent=1)
    draft.replace(path)


def _gpu_groups() -> tuple[int, ...]:
    groups = []
    for name in _GPU_GROUPS:
        with suppress(KeyError):
            groups.append(grp.getgrnam(name).gr_gid)
    return tuple(groups)
