"""An immutable copy of a function's code: what `/opt/nuclio` shows while the revision runs.

The whole contents of the folder are copied, as in Nuclio (pkg/processor/build/builder.go). What
never belongs to a function stays behind: version control, byte code, virtual environments. The copy
always has a `function.yaml` with the content of the file that was used, whatever its name, for
handlers read their labels from it.
"""

from __future__ import annotations

import base64
import binascii
import errno
import filecmp
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable
from pathlib import Path
from typing import IO

import msgspec
import yaml

from fnbuild import trees
from fnbuild.build.artifact import Artifact
from fnbuild.build.tree import Contents, Entry, contents, hash_of, shown
from fnbuild.datadir import data_dir, make_private
from fnbuild.errors import BuildError, ConflictError
from fnbuild.spec.reader import Loaded
from fnbuild.spec.types import Function, to_dict

_CHUNK_BYTES = 1 << 30
# What is smaller is copied: a handler that writes to a file of its own against all rules does no
# harm to other revisions then.
_SHARED_BYTES = 1 << 20
_CONFIG_NAME = "function.yaml"
_OWNER = re.compile(r"(?:\.staging-)?(\d+)-")


def digest(loaded: Loaded) -> str:
    """The hash (hex) that `stage` would give the artifact. Nothing is copied."""
    return hash_of(files(loaded))


def stage(
    loaded: Loaded,
    destination: Path,
    progress: Callable[[str], None] | None = None,
    previous: Path | None = None,
) -> Artifact:
    """Copy the code to `destination`, which must not exist; it appears whole or not at all.

    Large files that are the same in `previous`, an earlier copy, are shared with it: weights do not
    take their room once a revision. Nobody writes to either copy.

    Raises `BuildError` when something cannot be copied (a full disk, an unreadable file, a link
    that leaves the folder); then nothing is left behind.
    """
    found = files(loaded)
    if os.path.lexists(destination):
        raise ConflictError(f"{destination} exists already")
    make_private(destination.parent)
    sweep(destination.parent)
    temporary = destination.parent / f".staging-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        _copy_all(found, temporary, progress, previous)
        code_hash = hash_of(found, temporary)
        temporary.rename(destination)
    except OSError as error:
        raise BuildError(f"cannot write {destination}: {error.strerror}") from error
    finally:
        # After the rename there is nothing of that name.
        trees.discard(temporary)
    return Artifact("folder", str(destination), code_hash, tuple(found.warnings))


def files(loaded: Loaded) -> Contents:
    """What a copy would hold.

    Inline source wins over a single file, and that over the folder, as in Nuclio.
    """
    inline = loaded.function.spec.build.function_source_code
    if inline:
        found = _inline(loaded.function, inline)
    elif loaded.source_file is not None:
        found = Contents()
        found.add(Entry("file", loaded.source_file.name, loaded.source_file))
    else:
        found = contents(loaded.folder, excluded=data_dir())
    config: Path | bytes | None = loaded.config_path
    if config is None:
        config = _written(loaded.function)
    found.add(Entry("file", _CONFIG_NAME, config))
    return found


def _written(function: Function) -> bytes:
    """The configuration as a file, for code that came with none."""
    build = msgspec.structs.replace(function.spec.build, function_source_code="")
    spec = msgspec.structs.replace(function.spec, build=build)
    plain = to_dict(msgspec.structs.replace(function, spec=spec))
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False).encode()


def _inline(function: Function, text: str) -> Contents:
    try:
        code = base64.b64decode("".join(text.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BuildError(
            f"spec.build.functionSourceCode is not base64: {error}",
            hint="encode the source file: `base64 -w0 main.py`",
        ) from error
    module = function.spec.handler.partition(":")[0] or function.metadata.name
    if not re.fullmatch(r"[\w|-]+(\.[\w|-]+)*", module):
        raise BuildError(f"{module!r} (from spec.handler) cannot be the name of a Python module")
    *packages, name = module.split(".")
    found = Contents()
    for depth in range(len(packages)):
        found.add(Entry("folder", "/".join(packages[: depth + 1])))
    path = "/".join([*packages, f"{name}.py"])
    found.add(Entry("file", path, code.replace(b"\r\n", b"\n")))
    return found


def sweep(folder: Path) -> None:
    """Remove the files of killed processes from `folder`."""
    for path in abandoned(folder):
        trees.discard(path)


def abandoned(folder: Path) -> list[Path]:
    """List the files of killed processes in `folder`; their names have the process ids."""
    matches = ((path, _OWNER.match(path.name)) for path in sorted(folder.glob("*-*")))
    return [path for path, owner in matches if owner is not None and not _is_alive(int(owner[1]))]


def _is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True  # another user's process
    return True


def _copy_all(
    found: Contents,
    destination: Path,
    progress: Callable[[str], None] | None,
    previous: Path | None,
) -> None:
    destination.mkdir(mode=0o755)
    for count, entry in enumerate(found, 1):
        path = destination / entry.path
        try:
            if entry.kind == "folder":
                path.mkdir(mode=0o755)
            elif entry.kind == "link":
                path.symlink_to(entry.target)
            elif previous is None or not _shared(entry, previous / entry.path, path):
                _copy(entry, path)
        except OSError as error:
            raise _meaning(error, entry, destination) from error
        if progress is not None and count % 1000 == 0:
            progress(f"copied {count} of {len(found.entries)} files")


def _shared(entry: Entry, earlier: Path, path: Path) -> bool:
    """Whether the file could be linked to an earlier copy that has the same content and mode."""
    if isinstance(entry.source, bytes):
        return False
    try:
        about = earlier.lstat()
        if about.st_size < _SHARED_BYTES or about.st_mode != stat.S_IFREG | _mode(entry):
            return False
        if not filecmp.cmp(entry.source, earlier, shallow=False):
            return False
        path.hardlink_to(earlier)
    except OSError:
        return False  # not there, or on a file system that cannot: then it is copied
    return True


def _mode(entry: Entry) -> int:
    return 0o555 if entry.executable else 0o444


def _copy(entry: Entry, path: Path) -> None:
    with path.open("xb") as copy:
        if isinstance(entry.source, bytes):
            copy.write(entry.source)
        else:
            with entry.source.open("rb") as original:
                _transfer(original, copy)
        os.fchmod(copy.fileno(), _mode(entry))


def _transfer(original: IO[bytes], copy: IO[bytes]) -> None:
    """Copy inside the kernel, which shares the blocks on file systems that can."""
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(original.fileno(), copy.fileno(), _CHUNK_BYTES):
                pass
        except OSError as error:
            # Refused between these two file systems: then byte by byte, from where it stopped.
            if error.errno not in (errno.EXDEV, errno.ENOSYS, errno.EINVAL, errno.EOPNOTSUPP):
                raise
    shutil.copyfileobj(original, copy, 1 << 20)


def _meaning(error: OSError, entry: Entry, destination: Path) -> BuildError:
    name = shown(entry.path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(
            f"no space left in {destination.parent} while copying {name}",
            hint="free some space, or set FNBUILD_DATA_DIR to a directory on another disk",
        )
    if isinstance(error, FileNotFoundError):
        return BuildError(f"{name} vanished while it was copied", hint="try again")
    return BuildError(f"cannot copy {name}: {error.strerror}")
