"""An immutable copy of a function's code: what `/opt/nuclio` shows while the revision runs.

The whole contents of the folder are copied, as in Nuclio (pkg/processor/build/builder.go), except
for version control, byte code and virtual environments. The copy always has a `function.yaml` with
the content of the file that was used, whatever its name: handlers read their labels from it.
"""

from __future__ import annotations

import errno
import filecmp
import hashlib
import os
import re
import secrets
import shutil
import stat
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Literal

from fnbuild import trees
from fnbuild.builder.artifact import Artifact
from fnbuild.builder.staged_config import CONFIG_NAME, config_source
from fnbuild.datadir import data_dir, make_private_dir
from fnbuild.errors import BuildError, ConflictError
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function
from fnbuild.progress import Progress

# Version control, caches of tools, and byte code.
_SKIPPED_NAMES = frozenset(
    (
        *(".git", ".hg", ".svn", ".bzr", ".DS_Store"),
        *("__pycache__", ".mypy_cache", ".pytest_cache", ".ruff_cache", ".ipynb_checkpoints"),
        *(".tox", ".nox", ".venv"),
    )
)
_SKIPPED_SUFFIXES = (".pyc", ".pyo")

_CHUNK_BYTES = 1 << 30
# Smaller files are copied, so that a handler that writes to its own files does no harm to other
# revisions.
_SHARED_MIN_BYTES = 1 << 20
_OWNER_PID = re.compile(r"(?:\.staging-)?(\d+)-")


@dataclass(frozen=True, slots=True)
class FileEntry:
    """An entry to copy. `path` is relative; `source` is a file on disk, or the bytes themselves."""

    kind: Literal["folder", "file", "link"]
    path: str
    source: Path | bytes = b""
    executable: bool = False
    target: str = ""


@dataclass(slots=True)
class FileTree:
    """Entries by their path, and warnings about files that were left out."""

    entries: dict[str, FileEntry] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, entry: FileEntry) -> None:
        """Add the entry, replacing one with the same path."""
        self.entries[entry.path] = entry

    def __iter__(self) -> Iterator[FileEntry]:
        """Yield the entries by the bytes of their paths, each folder before its content."""
        for path in sorted(self.entries, key=os.fsencode):
            yield self.entries[path]


def scan_folder(folder: Path, excluded: Path | None = None) -> FileTree:
    """Return the files of the folder except version control, caches and virtual environments.

    Raises `BuildError` for a file that cannot be copied. `excluded` is a folder that is left out
    wherever it appears: the data directory, which may be inside the function's folder.
    """
    root = os.path.realpath(folder)
    excluded_path = None if excluded is None else os.path.realpath(excluded)
    tree = FileTree()
    pending = [""]
    while pending:
        pending += _scan_level(root, pending.pop(), excluded_path, tree)
    return tree


def _scan_level(root: str, folder: str, excluded_path: str | None, tree: FileTree) -> list[str]:
    """Add the entries of one folder; return its subfolders."""
    if folder.count(os.sep) >= trees.MAX_DEPTH:
        raise BuildError(
            f"{printable_path(folder[:120])}… is nested more than {trees.MAX_DEPTH} folders deep",
            hint="remove it, or move it out of the function's folder",
        )
    subfolders: list[str] = []
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
            tree.add(FileEntry("link", path, target=_link_target(root, path)))
        elif stat.S_ISREG(mode):
            tree.add(FileEntry("file", path, Path(child.path), bool(mode & stat.S_IXUSR)))
        elif not stat.S_ISDIR(mode):
            tree.warnings.append(
                f"{printable_path(path)} is {_special_file_kind(mode)}; it is not copied"
            )
        elif child.path != excluded_path and not os.path.exists(
            os.path.join(child.path, "pyvenv.cfg")
        ):
            tree.add(FileEntry("folder", path))
            subfolders.append(path)
    return subfolders


def _special_file_kind(mode: int) -> str:
    if stat.S_ISSOCK(mode):
        return "a socket"
    if stat.S_ISFIFO(mode):
        return "a named pipe"
    return "a device"


def _link_target(root: str, path: str) -> str:
    """Return the relative target of a link, each step of which must stay in the folder."""
    link = os.path.join(root, path)
    try:
        raw = os.readlink(link)
    except OSError as error:
        raise _unreadable_error(path, error) from error
    parent = os.path.dirname(link)
    # The last step stays unresolved, so that a link to a link remains one in the copy.
    target = os.path.join(parent, raw)
    target = os.path.join(os.path.realpath(os.path.dirname(target)), os.path.basename(target))
    target = os.path.normpath(target)
    for place in (target, os.path.realpath(link)):
        if place != root and not place.startswith(root.rstrip("/") + "/"):
            raise BuildError(
                f"the link {printable_path(path)} leads out of the function's folder, to"
                f" {printable_path(raw)}",
                hint="copy the file into the folder, or remove the link",
            )
    return os.path.relpath(target, parent)


def tree_hash(tree: FileTree, copy: Path | None = None) -> str:
    """Return the SHA-256 (hex) of paths, executable bits, link targets and contents.

    With `copy` the contents are read from the copy, so that the hash describes what was copied.
    """
    total = hashlib.sha256()
    for entry in tree:
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
            f"{printable_path(path)} disappeared while the folder was read",
            hint="try again when nothing changes it",
        )
    return BuildError(
        f"cannot read {printable_path(path)}: {error.strerror}",
        hint="make it readable, or move it out of the function's folder",
    )


def printable_path(path: str) -> str:
    """Return the path in a form that can be printed, whatever bytes it has."""
    return os.fsencode(path).decode("utf-8", "backslashreplace")


def code_digest(loaded: LoadedFunction) -> str:
    """Return the hash (hex) that `stage` would give the artifact, without copying anything."""
    return tree_hash(files_to_stage(loaded))


def stage(
    loaded: LoadedFunction,
    destination: Path,
    progress: Progress = lambda _: None,
    previous: Path | None = None,
) -> Artifact:
    """Copy the code to `destination`, which must not exist; it appears complete or not at all.

    Large files that are unchanged since `previous`, an earlier copy, are shared with it, so that
    weights are on the disk only once. Neither copy is changed afterwards.

    Raises `BuildError` if something cannot be copied (a full disk, an unreadable file, a link that
    leaves the folder); the partial copy is removed then.
    """
    tree = files_to_stage(loaded)
    if os.path.lexists(destination):
        raise ConflictError(f"{destination} exists already")
    make_private_dir(destination.parent)
    remove_abandoned_copies(destination.parent)
    temporary = destination.parent / f".staging-{os.getpid()}-{secrets.token_hex(4)}"
    try:
        _copy_all(tree, temporary, progress, previous)
        code_hash = tree_hash(tree, temporary)
        temporary.rename(destination)
    except OSError as error:
        raise BuildError(f"cannot write {destination}: {error.strerror}") from error
    finally:
        # After the rename it no longer exists.
        trees.try_remove(temporary)
    return Artifact("folder", str(destination), code_hash, tuple(tree.warnings))


def files_to_stage(loaded: LoadedFunction) -> FileTree:
    """Return the files that `stage` copies: the code and its `function.yaml`.

    Inline source takes precedence over a single file, and that over the folder, as in Nuclio.
    """
    if loaded.function.spec.build.function_source_code:
        tree = _inline_code(loaded.function)
    elif loaded.source_file is not None:
        tree = FileTree()
        tree.add(FileEntry("file", loaded.source_file.name, loaded.source_file))
    else:
        tree = scan_folder(loaded.folder, excluded=data_dir())
    tree.add(FileEntry("file", CONFIG_NAME, config_source(loaded)))
    return tree


def _inline_code(function: Function) -> FileTree:
    try:
        code = function.spec.build.decode_source_code()
    except ValueError as error:
        raise BuildError(
            f"spec.build.functionSourceCode is not base64: {error}",
            hint="encode the source file: `base64 -w0 main.py`",
        ) from error
    module = function.spec.handler.partition(":")[0] or function.metadata.name
    if not re.fullmatch(r"[\w|-]+(\.[\w|-]+)*", module):
        raise BuildError(f"{module!r} (from spec.handler) cannot be the name of a Python module")
    *packages, name = module.split(".")
    tree = FileTree()
    for depth in range(len(packages)):
        tree.add(FileEntry("folder", "/".join(packages[: depth + 1])))
    path = "/".join([*packages, f"{name}.py"])
    tree.add(FileEntry("file", path, code.replace(b"\r\n", b"\n")))
    return tree


def staging_dir() -> Path:
    """Return the folder of staged copies, without creating it."""
    return data_dir() / "staging"


def new_staging_folder() -> Path:
    """Return a new path for a staged copy; it does not exist yet."""
    return make_private_dir(staging_dir()) / f"{os.getpid()}-{secrets.token_hex(4)}"


def take_code(source: Path, code: Path) -> None:
    """Move a staged copy to the folder of a revision; copy any other folder there."""
    make_private_dir(code.parent.parent)
    make_private_dir(code.parent)
    if source.is_relative_to(staging_dir()):
        source.rename(code)
        return
    is_recorded = source.is_relative_to(data_dir())
    # Recorded code never changes, so revisions may share its files.
    copy = os.link if is_recorded else shutil.copy2
    shutil.copytree(source, code, symlinks=True, copy_function=copy)


def remove_abandoned_copies(folder: Path) -> None:
    """Remove the unfinished copies of killed processes from `folder`."""
    for path in abandoned_copies(folder):
        trees.try_remove(path)


def abandoned_copies(folder: Path) -> list[Path]:
    """List the copies of killed processes in `folder`; their names have the process ids."""
    matches = ((path, _OWNER_PID.match(path.name)) for path in sorted(folder.glob("*-*")))
    return [
        path
        for path, owner in matches
        if owner is not None and not trees.process_exists(int(owner[1]))
    ]


def _copy_all(tree: FileTree, destination: Path, progress: Progress, previous: Path | None) -> None:
    destination.mkdir(mode=0o755)
    for count, entry in enumerate(tree, 1):
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
        if count % 1000 == 0:
            progress(f"copied {count} of {len(tree.entries)} files")


def _link_unchanged(entry: FileEntry, earlier: Path, path: Path) -> bool:
    """Link the file to an unchanged earlier copy; return False if that is not possible."""
    if isinstance(entry.source, bytes):
        return False
    try:
        status = earlier.lstat()
        if status.st_size < _SHARED_MIN_BYTES or status.st_mode != stat.S_IFREG | _mode(entry):
            return False
        if not filecmp.cmp(entry.source, earlier, shallow=False):
            return False
        path.hardlink_to(earlier)
    except OSError:
        return False  # missing, or on a file system without links: it is copied
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
    """Copy inside the kernel, which shares blocks on file systems that support it."""
    if hasattr(os, "copy_file_range"):
        try:
            while os.copy_file_range(original.fileno(), copy.fileno(), _CHUNK_BYTES):
                pass
        except OSError as error:
            # Not supported between these file systems: continue byte by byte.
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
        return BuildError(f"{name} disappeared while it was copied", hint="try again")
    return BuildError(f"cannot copy {name}: {error.strerror}")
