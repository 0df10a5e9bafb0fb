"""The process platform's configuration on this machine: `platform.yaml` in the data directory.

isolate: users                    # none is the default
users: 1900000000-1900009999      # numbers of the users that functions run as
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import msgspec
import yaml

from fnbuild.datadir import data_dir
from fnbuild.errors import InputError, PreconditionError

NAME = "platform.yaml"
# Outside of the ranges of login users and the defaults of systemd and container engines.
_DEFAULT_USERS = "1900000000-1900009999"
_RANGE = re.compile(r"(\d+)-(\d+)\Z")
_HIGHEST = (1 << 31) - 1


class _File(msgspec.Struct, forbid_unknown_fields=True):
    isolate: Literal["none", "users"] = "none"
    users: str = _DEFAULT_USERS


# Completes the type at import, as in fnbuild.platforms.processors.
msgspec.json.Decoder(_File)


@dataclass(frozen=True, slots=True)
class UserRange:
    """The numbers of users and groups that functions may get, both ends included."""

    first: int
    last: int


def isolated_users() -> UserRange | None:
    """Return the users that functions run as; None if they run as the supervisor's user.

    Raises `InputError` for an invalid file, and `PreconditionError` if users are to be isolated
    and this process is not root.
    """
    path = data_dir() / NAME
    settings = _read(path)
    if settings.isolate == "none":
        return None
    match = _RANGE.match(settings.users)
    users = UserRange(int(match[1]), int(match[2])) if match else UserRange(0, 0)
    if not 1000 <= users.first <= users.last <= _HIGHEST:
        raise InputError(
            f'{path}: users: "{settings.users}" is not a range of users',
            hint=f"two numbers from 1000 to {_HIGHEST}, as in {_DEFAULT_USERS}",
        )
    if os.geteuid() != 0:
        raise PreconditionError(
            f"{path} asks for `isolate: users`, which only root can do",
            hint="run it as root, or set `isolate: none`: functions share your user then",
        )
    return users


def _read(path: Path) -> _File:
    try:
        raw = yaml.safe_load(path.read_text())
        return msgspec.convert(raw or {}, _File)
    except FileNotFoundError:
        return _File()
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error
    except (yaml.YAMLError, UnicodeDecodeError, msgspec.ValidationError) as error:
        raise InputError(
            f"{path}: {error}", hint="`isolate: users` or `isolate: none`, and `users: FIRST-LAST`"
        ) from error
