"""An immutable copy of a function's code: what `/opt/nuclio` shows while the revision runs.

The whole contents of the folder are copied, as in Nuclio (pkg/processor/build/builder.go), except
for version control, byte code and virtual environments. The copy always has a `function.yaml` with
the content of the file that was used, whatever its name: handlers read their labels from it.
"""

from __future__ import annotations

import base64
import binascii
import errno
import filecmp
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

import msgspec
import yaml

from fnbuild import trees
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import BuildError, ConflictError
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function, to_dict


@dataclass(frozen=True, slots=True)
class Artifact:
    """What the build stage made: a folder with the code, or an image reference.

    `digest` is the hash of the code (hex); equal digests mean equal code. `id` is the engine's id
    of an image, where the reference may mean another one by now; `pinned` is a reference that never
    will, for platforms whose machines fetch the image themselves.
    """

    kind: Literal["folder", "image"]
    reference: str
    digest: str
    warnings: tuple[str, ...] = ()
    id: str = ""
    pinned: str = ""


# Version control, what tools keep for themselves, and what an interpreter makes again.
_SKIPPED_NAMES = frozenset(
    (
        *(".git", ".hg", ".svn", ".bzr", ".DS_Store"),
        *("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"),
        *(".tox", ".nox", ".venv"),
    )
)
_SKIPPED_SUFFIXES = (".pyc", ".pyo")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """One thing to copy. `path` is relative; `source` is a file on disk or the bytes themselves."""

    kind: Literal["folder", "file", "link"]
    path: str
    source: Path | bytes = b""
    executable: bool = False
    target: str = ""


@dataclass(slots=True)
class FileTree:
    """Entries by their path, and what was left out that a user should know of."""

    entries: dict[str, FileEntry] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, entry: FileEntry) -> None:
        """Add it, in place of an entry with the same path."""
        self.entries[entry.path] = entry

    def __iter__(self) -> Iterator[FileEntry]:
        """Entries in the order of their paths' bytes, so folders come before what is in them."""
        for path in sorted(self.entries, key=os.fsencode):
            yield self.entries[path]


def scan_folder(folder: Path, excluded: Path | None = None) -> FileTree:
    """What the folder holds. Raises `BuildError` for what can be neither read nor copied.

    `excluded` is a folder that is left out wherever it is met: the data directory, which may lie
    inside the function's folder.
    """
    root = os.path.realpath(folder)
    out = None if excluded is None else os.path.realpath(excluded)
    found = FileTree()
    waiting = [""]
    while waiting:
        waiting += _scan_level(root, waiting.pop(), out, found)
    return found


def _scan_level(root: str, folder: str, out: str | None, collected: FileTree) -> list[str]:
    """Add the entries of one folder; return its subfolders, which have to be read as well."""
    if folder.count(os.sep) >= trees.MAX_DEPTH:
        raise BuildError(
            f"{printable_path(folder[:120])}… is nested more than {trees.MAX_DEPTH} folders deep",
            hint="remove it, or move it out of the function's folder",
        )
    deeper: list[str] = []
    try:
        with os.scandir(os.path.join(root, folder)) as listing:
            children = list(listing)
    except OSError as error:
        raise _unreadable_error(folder or root, error) from error
    for child in children:
        if child.name in _SKIPPED_NAMES or child.name.endswith(_SKIPPED_SUFFIXES):
            continue
        path = os.path.join(folder, child.name)
        try:
            mode = child.stat(follow_symlinks=False).st_mode
        except OSError as error:
            raise _unreadable_error(path, error) from error
        if stat.S_ISLNK(mode):
            collected.add(FileEntry("link", path, target=_link_target(root, path)))
        elif stat.S_ISREG(mode):
            collected.add(FileEntry("file", path, Path(child.path), bool(mode & stat.S_IXUSR)))
        elif not stat.S_ISDIR(mode):
            collected.warnings.append(
                f"{printable_path(path)} is {_special_file_kind(mode)}; it is not copied"
            )
        elif child.path != out and not os.path.exists(os.path.join(child.path, "pyvenv.cfg")):
            collected.add(FileEntry("folder", path))
            deeper.append(path)
    return deeper


def _special_file_kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a device"


def _link_target(root: str, path: str) -> str:
    """The relative target of a link; the link must stay in the folder, step by step."""
    link = os.path.join(root, path)
    try:
        raw = os.readlink(link)
    except OSError as error:
        raise _unreadable_error(path, error) from error
    here = os.path.dirname(link)
    # The last step stays unresolved: a link to a link remains one in the copy.
    aim = os.path.join(here, raw)
    aim = os.path.join(os.path.realpath(os.path.dirname(aim)), os.path.basename(aim))
    aim = os.path.normpath(aim)
    for place in (aim, os.path.realpath(link)):
        if place != root and not place.startswith(root.rstrip("/") + "/"):
            raise BuildError(
                f"the link {printable_path(path)} leads out of the function's folder, to"
                f" {printable_path(raw)}",
                hint="copy the file into the folder, or remove the link",
            )
    return os.path.relpath(aim, here)


def tree_hash(found: FileTree, copy: Path | None = None) -> str:
    """SHA-256 (hex) over paths, executable bits, link targets and contents.

    With `copy` the contents are read from the copy, so the hash is of what was really copied.
    """
    total = hashlib.sha256()
    for entry in found:
        source = entry.source if copy is None else copy / entry.path
        content = b""
        if entry.kind == "file":
            content = _file_hash(source, entry.path)
        elif entry.kind == "link":
            content = os.fsencode(entry.target)
        kind = "program" if entry.executable else entry.kind
        for part in (kind.encode(), os.fsencode(entry.path), content):
            total.update(len(part).to_bytes(8, "big"))
            total.update(part)
    return total.hexdigest()


def _file_hash(source: Path | bytes, path: str) -> bytes:
    if isinstance(source, bytes):
        return hashlib.sha256(source).digest()
    try:
        with source.open("rb") as file:
            return hashlib.file_digest(file, "sha256").digest()
    except OSError as error:
        raise _unreadable_error(path, error) from error


def _unreadable_error(path: str, error: OSError) -> BuildError:
    if isinstance(error, FileNotFoundError):
        return BuildError(
            f"{printable_path(path)} vanished while the folder was read",
            hint="try again when it is at rest",
        )
    return BuildError(
        f"cannot read {printable_path(path)}: {error.strerror}",
        hint="make it readable, or move it out of the function's folder",
    )


def printable_path(path: str) -> str:
    """A path that can be printed, whatever bytes its name has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


_CHUNK_BYTES = 1 << 30
# What is smaller is copied: a handler that writes to a file of its own against all rules does no
# harm to other revisions then.
_SHARED_MIN_BYTES = 1 << 20
_CONFIG_NAME = "function.yaml"
_OWNER_PID = re.compile(r"(?:\.staging-)?(\d+)-")


def code_digest(loaded: LoadedFunction) -> str:
    """The hash (hex) that `stage` would give the artifact. Nothing is copied."""
    return tree_hash(code_files(loaded))


def stage(
    loaded: LoadedFunction,
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
    found = code_files(loaded)
    if os.path.lexists(destination):
        raise ConflictError(f"{destination} exists already")
    make_private_dir(destination.parent)
    remove_abandoned(destination.parent)
    temporary = destination.parent / f".staging-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        _copy_all(found, temporary, progress, previous)
        code_hash = tree_hash(found, temporary)
        temporary.rename(destination)
    except OSError as error:
        raise BuildError(f"cannot write {destination}: {error.strerror}") from error
    finally:
        # After the rename there is nothing of that name.
        trees.try_remove(temporary)
    return Artifact("folder", str(destination), code_hash, tuple(found.warnings))


def code_files(loaded: LoadedFunction) -> FileTree:
    """What a copy would hold.

    Inline source wins over a single file, and that over the folder, as in Nuclio.
    """
    inline = loaded.function.spec.build.function_source_code
    if inline:
        found = _inline_code(loaded.function, inline)
    elif loaded.source_file is not None:
        found = FileTree()
        found.add(FileEntry("file", loaded.source_file.name, loaded.source_file))
    else:
        found = scan_folder(loaded.folder, excluded=data_dir())
    config: Path | bytes | None = loaded.config_path
    if config is None:
        config = _config_bytes(loaded.function)
    found.add(FileEntry("file", _CONFIG_NAME, config))
    return found


def _config_bytes(function: Function) -> bytes:
    """The configuration as a file, for code that came with none."""
    build = msgspec.structs.replace(function.spec.build, function_source_code="")
    spec = msgspec.structs.replace(function.spec, build=build)
    plain = to_dict(msgspec.structs.replace(function, spec=spec))
    return yaml.safe_dump(plain, allow_unicode=True, sort_keys=False).encode()


def _inline_code(function: Function, text: str) -> FileTree:
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
    found = FileTree()
    for depth in range(len(packages)):
        found.add(FileEntry("folder", "/".join(packages[: depth + 1])))
    path = "/".join([*packages, f"{name}.py"])
    found.add(FileEntry("file", path, code.replace(b"\r\n", b"\n")))
    return found


def remove_abandoned(folder: Path) -> None:
    """Remove the files of killed processes from `folder`."""
    for path in abandoned_files(folder):
        trees.try_remove(path)


def abandoned_files(folder: Path) -> list[Path]:
    """List the files of killed processes in `folder`; their names have the process ids."""
    matches = ((path, _OWNER_PID.match(path.name)) for path in sorted(folder.glob("*-*")))
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
    found: FileTree,
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
            elif previous is None or not _link_unchanged(entry, previous / entry.path, path):
                _copy(entry, path)
        except OSError as error:
            raise _copy_error(error, entry, destination) from error
        if progress is not None and count % 1000 == 0:
            progress(f"copied {count} of {len(found.entries)} files")


def _link_unchanged(entry: FileEntry, earlier: Path, path: Path) -> bool:
    """Whether the file could be linked to an earlier copy that has the same content and mode."""
    if isinstance(entry.source, bytes):
        return False
    try:
        about = earlier.lstat()
        if about.st_size < _SHARED_MIN_BYTES or about.st_mode != stat.S_IFREG | _mode(entry):
            return False
        if not filecmp.cmp(entry.source, earlier, shallow=False):
            return False
        path.hardlink_to(earlier)
    except OSError:
        return False  # not there, or on a file system that cannot: then it is copied
    return True


def _mode(entry: FileEntry) -> int:
    return 0o555 if entry.executable else 0o444


def _copy(entry: FileEntry, path: Path) -> None:
    with path.open("xb") as copy:
        if isinstance(entry.source, bytes):
            copy.write(entry.source)
        else:
            with entry.source.open("rb") as original:
                _copy_content(original, copy)
        os.fchmod(copy.fileno(), _mode(entry))


def _copy_content(original: IO[bytes], copy: IO[bytes]) -> None:
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


def _copy_error(error: OSError, entry: FileEntry, destination: Path) -> BuildError:
    name = printable_path(entry.path)
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return BuildError(
            f"no space left in {destination.parent} while copying {name}",
            hint="free some space, or set FNBUILD_DATA_DIR to a directory on another disk",
        )
    if isinstance(error, FileNotFoundError):
        return BuildError(f"{name} vanished while it was copied", hint="try again")
    return BuildError(f"cannot copy {name}: {error.strerror}")
