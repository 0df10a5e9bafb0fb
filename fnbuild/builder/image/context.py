"""The build context: the folder that an engine builds from.

    artifacts/runtime.tar       the runtime of fnbuild
    artifacts/grpc.tar          grpcio and protobuf, for the gRPC server only
    artifacts/requirements.tar  the requirements.txt of the code, with the files that it names
    artifacts/large.tar         files of the code of 1 MiB and more
    artifacts/config.tar        the processor's configuration
    artifacts/code.tar          all other code
    handler/                    the code once more, for directives that copy from it as in Nuclio

Equal content gives equal archives, so that engines and registries keep one layer. A COPY of a
folder would not: BuildKit gives its folders the time of the build. An archive has an entry for
every folder, including parent folders of the files.
"""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

from fnbuild import trees
from fnbuild.builder.directives import PlacedDirective, directives_of
from fnbuild.builder.image import dockerfile, dockerignore
from fnbuild.builder.image.probe import ImageFolders, ProbedImage
from fnbuild.builder.image.runtime_tree import FILE_TIMESTAMP, write_runtime
from fnbuild.builder.requirement_files import FlatRequirements
from fnbuild.builder.staging import printable_path
from fnbuild.errors import BuildError
from fnbuild.function.file_redaction import redact_config_text
from fnbuild.function.source_text import MAX_BYTES
from fnbuild.function.types import Function, Raw
from fnbuild.names import CODE_FOLDER, PROCESSOR_PATH, RUNTIME_FOLDER

ArchiveEntry = tuple[str, Path | bytes]
"""A path in the image, and the file, link or folder that is to be there, or a file's bytes."""

_BUFFER_BYTES = 1 << 20

LARGE_FILE_BYTES = 1 << 20
CONFIG_PATHS = ("/etc/nuclio/config/processor/processor.json", f"{RUNTIME_FOLDER}/processor.json")
"""The paths of the processor's configuration, in the order in which it looks for them."""

_CONFIG_NAME = "function.yaml"
_CONFIG_SUFFIXES = (".yaml", ".yml")
_REQUIREMENTS = "requirements.txt"
_WHITEOUT = ".wh."
"""The prefix of names that delete files of lower layers (OCI image format)."""


def write_archive(
    file: Path, entries: Iterable[ArchiveEntry], image_folders: ImageFolders | None = None
) -> None:
    """Write an archive of files, links and folders by their absolute paths in the image.

    Root owns everything. Modes are 0755, and 0644 for files that are not executable.
    `image_folders` are the existing folders of the image, which keep owner and mode.
    """
    existing = image_folders or ImageFolders()
    sources = {existing.real(path).lstrip("/"): source for path, source in entries}
    folders = {str(parent) for path in sources for parent in PurePosixPath(path).parents} - {"."}
    # This format preserves names in any encoding.
    with tarfile.TarFile(
        file, "w", format=tarfile.GNU_FORMAT, copybufsize=_BUFFER_BYTES
    ) as archive:
        for path in sorted({*sources, *folders}, key=os.fsencode):
            _add_entry(archive, path, sources.get(path), existing)


def _add_entry(
    archive: tarfile.TarFile, path: str, source: Path | bytes | None, image_folders: ImageFolders
) -> None:
    entry = tarfile.TarInfo(path)
    entry.mtime = FILE_TIMESTAMP
    entry.mode = 0o755
    if isinstance(source, bytes):
        entry.mode, entry.size = 0o644, len(source)
        archive.addfile(entry, io.BytesIO(source))
    elif source is None or (source.is_dir() and not source.is_symlink()):
        entry.type = tarfile.DIRTYPE
        entry.uid, entry.gid, entry.mode = image_folders.owners.get(f"/{path}", (0, 0, 0o755))
        archive.addfile(entry)
    elif source.is_symlink():
        entry.type, entry.mode, entry.linkname = tarfile.SYMTYPE, 0o777, os.readlink(source)
        archive.addfile(entry)
    else:
        with source.open("rb") as content:
            status = os.fstat(content.fileno())
            entry.mode = 0o755 if status.st_mode & 0o100 else 0o644
            entry.size = status.st_size
            archive.addfile(entry, content)


class BuildContext:
    """The folder of the build context, created in two steps.

    The user's lines before the code may already read `handler/`, so it is created first. `warnings`
    are for the user.
    """

    def __init__(self, folder: Path, function: Function, code: Path) -> None:
        """Write what the user's lines may read. `folder` exists and is empty.

        `code` is a staged copy. Raises `BuildError` if something cannot be written or be part of an
        image, and `InputError` for an invalid `.dockerignore`.
        """
        self._folder = folder
        self._code = code
        self.warnings: list[str] = []
        try:
            self._paths = self._included_paths(function)
            large = {path for path in self._paths if _is_large(code / path)}
            self._large = [path for path in self._paths if path in large]
            self._small = [path for path in self._paths if path not in large]
            self._redacted = redacted_configs(code, self._paths)
            if _copies_from_context(function):
                _copy_code(folder / "handler", code, self._paths, self._redacted)
        except OSError as error:
            raise _write_error(error, folder) from error

    @property
    def has_large_files(self) -> bool:
        return bool(self._large)

    def write_archives(
        self, config: Raw, image: ProbedImage, *, grpc: Path | None = None, offline: bool = False
    ) -> None:
        """Write the archives, replacing earlier ones.

        `config` is the processor's configuration, `image` the one before the code, `grpc` the
        folder with the packages of the gRPC server, if it has one.
        """
        image_folders = image.folders
        text = json.dumps(config, indent=1, sort_keys=True) + "\n"
        try:
            (self._folder / dockerfile.CODE_ARCHIVE).parent.mkdir(exist_ok=True)
            self._write_code_archive(dockerfile.CODE_ARCHIVE, self._small, image_folders)
            if self._large:
                self._write_code_archive(dockerfile.LARGE_FILES_ARCHIVE, self._large, image_folders)
            if (self._code / _REQUIREMENTS).is_file():
                self._write_code_archive(
                    dockerfile.REQUIREMENTS_ARCHIVE, _requirement_paths(self._code), image_folders
                )
            copies = [(path, text.encode()) for path in CONFIG_PATHS]
            write_archive(self._folder / dockerfile.CONFIG_ARCHIVE, copies, image_folders)
            self._add_runtime(image, offline)
            if grpc is not None:
                entries = [
                    (f"{RUNTIME_FOLDER}/grpc/{path}", grpc / path) for path in _relative_paths(grpc)
                ]
                write_archive(self._folder / dockerfile.GRPC_ARCHIVE, entries, image_folders)
        except OSError as error:
            raise _write_error(error, self._folder) from error

    def _write_code_archive(self, name: str, paths: list[str], image_folders: ImageFolders) -> None:
        sources = [self._redacted.get(path, self._code / path) for path in paths]
        entries = [
            (f"{CODE_FOLDER}/{path}", source) for path, source in zip(paths, sources, strict=True)
        ]
        write_archive(self._folder / name, entries, image_folders)

    def _add_runtime(self, image: ProbedImage, offline: bool) -> None:
        with tempfile.TemporaryDirectory(
            dir=self._folder.parent, prefix=f"{os.getpid()}-"
        ) as temporary:
            top = Path(temporary)
            write_runtime(top, image.python, offline)
            home = top / "fnbuild"
            entries = [(f"{RUNTIME_FOLDER}/{path}", home / path) for path in _relative_paths(home)]
            entries += [(RUNTIME_FOLDER, home), (PROCESSOR_PATH, top / "processor")]
            write_archive(self._folder / dockerfile.RUNTIME_ARCHIVE, entries, image.folders)

    def _included_paths(self, function: Function) -> list[str]:
        """Return the relative paths that are copied into the image."""
        rules = dockerignore.read_dockerignore(self._code)
        module = function.spec.handler.partition(":")[0].replace(".", "/")
        required = (_CONFIG_NAME, f"{module}.py", f"{module}/__init__.py")
        included = []
        for path in _relative_paths(self._code):
            if rules.ignores(path):
                if path not in required:
                    continue
                self.warnings.append(
                    f"{dockerignore.DOCKERIGNORE} leaves out {printable_path(path)}, which the"
                    " function needs; it is copied"
                )
            if f"/{_WHITEOUT}" in f"/{path}":
                raise BuildError(
                    f"{printable_path(path)} cannot be in an image: engines treat a name that"
                    f" begins with {_WHITEOUT} as the deletion of another file",
                    hint=f"rename it, or list it in {dockerignore.DOCKERIGNORE}",
                )
            included.append(path)
        return included


def _relative_paths(folder: Path) -> list[str]:
    """Return the relative paths of all files, links and folders, each folder before its content."""
    paths: list[str] = []
    for folder_path, folders, files in trees.walk(folder):
        inside = os.path.relpath(folder_path, folder)
        paths += [name if inside == "." else f"{inside}/{name}" for name in (*folders, *files)]
    return sorted(paths, key=os.fsencode)


def _is_large(path: Path) -> bool:
    return path.is_file() and not path.is_symlink() and path.stat().st_size >= LARGE_FILE_BYTES


def _requirement_paths(code: Path) -> list[str]:
    """Return the requirements.txt and the files that it names, which are installed first."""
    root = code.resolve()
    flat = FlatRequirements(root)
    try:
        flat.read(root / _REQUIREMENTS)
        sources = [*flat.files, *flat.own_packages]
    except BuildError:
        # The installation reports the error, if there is one.
        sources = [root / _REQUIREMENTS]
    required = {_REQUIREMENTS}
    for source in sources:
        inside = os.path.relpath(source, root)
        required |= {
            inside,
            *(os.path.normpath(f"{inside}/{path}") for path in _relative_paths(source)),
        }
    return sorted(required - {"."})


def _copies_from_context(function: Function) -> bool:
    """Return True if a line of the user's may read `handler/`."""
    return any(map(_reads_context, directives_of(function.spec.build)))


def _reads_context(directive: PlacedDirective) -> bool:
    if directive.kind == "RUN":
        return "--mount" in directive.value
    return directive.kind in ("COPY", "ADD", "ONBUILD") and "--from=" not in directive.value


def redacted_configs(code: Path, paths: list[str]) -> dict[str, bytes]:
    """Return configuration files that hold secrets, without the secrets.

    There may be several: the file that is used, its original, and variants.
    """
    configs = {}
    for path in paths:
        file = code / path
        if "/" in path or file.suffix not in _CONFIG_SUFFIXES or not file.is_file():
            continue
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
        redacted_data = redact_config_text(data, path)
        if redacted_data != data:
            configs[path] = redacted_data
    return configs


def _copy_code(handler: Path, code: Path, paths: list[str], replaced: dict[str, bytes]) -> None:
    """Write the code as a folder; `replaced` are files whose bytes differ from the staged ones.

    Large files are linked, because they may be very large.
    """
    handler.mkdir()
    for path in paths:
        source, target = code / path, handler / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_symlink():
            target.symlink_to(os.readlink(source))
        elif source.is_dir():
            target.mkdir(exist_ok=True)
        elif path in replaced:
            target.write_bytes(replaced[path])
            target.chmod(0o644)
        elif not (_is_large(source) and _hardlink(source, target)):
            shutil.copyfile(source, target)
            target.chmod(0o755 if source.stat().st_mode & 0o100 else 0o644)
    for path in (".", *_relative_paths(handler)):
        if (handler / path).is_dir() and not (handler / path).is_symlink():
            (handler / path).chmod(0o755)


def _hardlink(source: Path, target: Path) -> bool:
    try:
        target.hardlink_to(source)
    except OSError:
        return False  # another file system, or one without links
    return True


def _write_error(error: OSError, folder: Path) -> BuildError:
    return BuildError(
        f"cannot write the build context {folder}: {error.strerror}",
        hint="free some space, or set FNBUILD_DATA_DIR to a directory on another disk",
    )
