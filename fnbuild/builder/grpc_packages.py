"""Provide grpcio and protobuf for the gRPC server of a processor, in a folder of their own.

The folder is on the path of that server only, so that a handler may have other releases. Each
Python gets the last releases that support it, since older Pythons have no wheels of newer ones:

    3.9 and newer  grpcio 1.76, with wheels up to Python 3.14, and protobuf 6
    3.8            grpcio 1.70, the last for it, and protobuf 5
    3.7            grpcio 1.62, the last for it, and protobuf 4.24
    3.6            grpcio 1.48, the last for it, and protobuf 3.19
"""

from __future__ import annotations

import importlib.util
import os
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

from fnbuild.builder import pip
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import BuildError
from fnbuild.function.types import Function
from fnbuild.progress import Progress

PROTOCOL = "grpc"
"""The protocol's name in the attribute `protocols` of an http trigger."""

_GLIBC_TAGS = ("manylinux2014", "manylinux_2_17")
_MUSL_TAGS = ("musllinux_1_2", "musllinux_1_1")
_MODULES = ("grpc", "google.protobuf", "grpc_health", "grpc_reflection")


@dataclass(frozen=True, slots=True)
class _Release:
    """The packages for a Python from `python` on; `more` are what they depend on."""

    python: tuple[int, int]
    grpcio: str
    protobuf: str
    more: tuple[str, ...] = ()

    @property
    def packages(self) -> tuple[str, ...]:
        names = ("grpcio", "grpcio-health-checking", "grpcio-reflection")
        pinned = [f"{name}=={self.grpcio}" for name in names]
        return (*pinned, f"protobuf=={self.protobuf}", *self.more)


_RELEASES = (
    _Release((3, 9), "1.76.0", "6.33.6", ("typing-extensions==4.15.0",)),
    _Release((3, 8), "1.70.0", "5.29.6"),
    _Release((3, 7), "1.62.3", "4.24.4"),
    _Release((3, 6), "1.48.2", "3.19.6", ("six==1.16.0",)),
)


@dataclass(frozen=True, slots=True)
class GrpcPython:
    """The Python of a gRPC server: its version, and its system such as `x86_64-glibc`."""

    version: tuple[int, int]
    system: str
    implementation: str = "cpython"

    @property
    def name(self) -> str:
        return f"{self.implementation}{self.version[0]}.{self.version[1]}-{self.system}"

    @property
    def wheel_tags(self) -> tuple[str, ...]:
        """The platforms of wheels that this Python can load."""
        machine, _, libc = self.system.partition("-")
        names = _MUSL_TAGS if libc == "musl" else _GLIBC_TAGS
        return tuple(f"{name}_{machine}" for name in names)


def serves_grpc(function: Function) -> bool:
    """Return True if the function's http trigger lists gRPC in `protocols`."""
    trigger = function.http_trigger()
    protocols = trigger[1].attributes.get("protocols") if trigger else None
    return isinstance(protocols, list) and PROTOCOL in protocols


def own_system() -> str:
    """Return the system of this machine, as in `GrpcPython`."""
    try:
        libc = "glibc" if os.confstr("CS_GNU_LIBC_VERSION") else "musl"
    except (ValueError, OSError):
        libc = "musl"
    return f"{os.uname().machine}-{libc}"


def packages_folder(python: GrpcPython) -> Path:
    """Return the folder with only the packages for a Python, which may not exist yet."""
    return data_dir() / "grpc" / f"{python.name}-{_release(python).grpcio}"


def local_packages_folder(python: GrpcPython) -> Path:
    """Return the folder for a processor on this machine.

    For fnbuild's own Python it is the environment of fnbuild, if that has the extra `grpc`.
    """
    if python.version == sys.version_info[:2] and (folder := _installed_folder()) is not None:
        return folder
    return packages_folder(python)


def ensure_local_packages(python: GrpcPython, progress: Progress) -> Path:
    """Return `local_packages_folder`, with the packages. Raises `BuildError`."""
    folder = local_packages_folder(python)
    return folder if folder.is_dir() else ensure_packages(python, progress)


def ensure_packages(python: GrpcPython, progress: Progress, *, offline: bool = False) -> Path:
    """Return the folder with the packages for a Python, which are installed once.

    Raises `BuildError` if there are none for it, or if pip cannot install them. `offline` prevents
    a download.
    """
    folder = packages_folder(python)
    if folder.is_dir():
        return folder
    what = f"gRPC needs grpcio for {python.name}"
    if python.implementation != "cpython":
        raise BuildError(
            f"{what}, and there is none", hint="choose an image with CPython; HTTP works without it"
        )
    hint = "deploy once with network access; later deploys use the copy. HTTP works without it"
    if offline:
        raise BuildError(f"{what}, which may not be downloaded offline", hint=hint)
    progress(f"installing grpcio for {python.name}")
    make_private_dir(folder.parent)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".draft-") as temporary:
        draft = Path(temporary, "packages")
        try:
            _install(python, draft, f"{what}, which cannot be installed", progress)
            os.rename(draft, folder)
        except BuildError as error:
            raise BuildError(error.message, detail=error.detail, hint=hint) from error
        except OSError as error:
            # Another process may have created the same folder.
            if not folder.is_dir():
                raise BuildError(f"cannot write {folder}: {error.strerror}") from error
    return folder


def _install(python: GrpcPython, folder: Path, what: str, progress: Progress) -> None:
    version = ".".join(map(str, python.version))
    words = ["install", "--no-deps", "--no-compile", "--only-binary", ":all:", "--upgrade"]
    words += ["--implementation", "cp", "--python-version", version, "--target", str(folder)]
    words += [word for tag in python.wheel_tags for word in ("--platform", tag)]
    command = [*pip.own_pip_command(), *words, *_release(python).packages]
    pip.run_pip(command, what, progress, str(folder.parent))


def _release(python: GrpcPython) -> _Release:
    return next(release for release in _RELEASES if python.version >= release.python)


def _installed_folder() -> Path | None:
    """Return the folder of fnbuild's environment that has all packages, or None."""
    folders = set()
    for module in _MODULES:
        try:
            spec = importlib.util.find_spec(module)
        except ModuleNotFoundError:
            return None
        if spec is None or not spec.origin:
            return None
        folders.add(Path(spec.origin).parents[len(module.split("."))])
    return folders.pop() if len(folders) == 1 else None
