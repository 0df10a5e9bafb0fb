"""Export and import of functions: configuration and code.

A function with a single source file includes it as `spec.build.functionSourceCode`, as Nuclio's
builder does (pkg/processor/build/builder.go). The code of other functions needs an archive:

    export.yaml        the document that an export without an archive prints
    code/NAME/…        the code of each function, with its configuration as exported
"""

from __future__ import annotations

import base64
import gzip
import io
import os
import re
import tarfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import msgspec
import yaml

from fnbuild import trees
from fnbuild.builder.sources import archives
from fnbuild.builder.sources.code_entry import is_code_fetched
from fnbuild.builder.staging import FileEntry, FileTree, scan_folder
from fnbuild.deploy import projects
from fnbuild.errors import ConfigError, InputError
from fnbuild.function import import_rules, reader
from fnbuild.function.secrets import without_access_credentials
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.platforms import Deployment, Platform, imported_code
from fnbuild.platforms.revision_records import PREVIOUS_STATE_ANNOTATION

ConfigurationExporter = Callable[[Function], Raw]
"""Turns a configuration into its exported form, without secrets and local fields."""

_DOCUMENT = "export.yaml"
_CODE = "code"
_CONFIG_NAMES = ("function.yaml", "function.yml")
_CONFIG = re.compile(r"function[\w.-]*\.ya?ml")
_LARGEST_DOCUMENT = 64 << 20


def export_configuration(
    function: Function,
    *,
    state: str = "",
    image: str = "",
    scrub: bool = True,
    cleanup_spec: bool = False,
) -> Raw:
    """Return the configuration as nuctl exports it, ready for an import elsewhere.

    `state` is the function's state, which Nuclio records in the export. `image` is the exact
    reference of the running image, if known: a reference with a registry digest replaces the image
    name, since the name may refer to another image later.

    `scrub` removes the namespace and the credentials of triggers and of the code entry, as Nuclio
    does (pkg/functionconfig/types.go). The values of variables stay.
    """
    raw = to_dict(function)
    raw.pop("status", None)
    metadata = raw.setdefault("metadata", {})
    metadata.pop("resourceVersion", None)
    annotations = metadata.setdefault("annotations", {})
    annotations.update({"skip-build": "true", "skip-deploy": "true"})
    if state:
        annotations[PREVIOUS_STATE_ANNOTATION] = state
    spec = raw.setdefault("spec", {})
    if "@sha256:" in image:
        spec["image"] = image
    if scrub:
        metadata.pop("namespace", None)
        raw = without_access_credentials(raw)
        spec = raw["spec"]
    if cleanup_spec:
        spec.pop("runRegistry", None)
        spec.get("build", {}).pop("registry", None)
        if spec.get("build", {}).get("functionSourceCode"):
            spec.pop("image", None)
    return raw


@dataclass(frozen=True, slots=True)
class ExportedFunction:
    """A function ready for export. `function` contains its source if that is all of its code.

    Otherwise `folder` holds the code, if the platform has it on this machine. `missing` is a
    message that the configuration alone lacks the code; "" if nothing is missing.
    """

    function: Function
    folder: Path | None = None
    missing: str = ""


def prepare_export(platform: Platform, deployment: Deployment) -> ExportedFunction:
    """Find the code of a function, and embed it if it is a single source file."""
    function, name = deployment.function, deployment.name
    build = function.spec.build
    if build.function_source_code:
        return ExportedFunction(function)
    folder = platform.code_folder(function.metadata.namespace, name)
    if is_code_fetched(build):
        return ExportedFunction(function, folder)  # a deploy fetches it again
    if folder is not None:
        if (source := _single_source(folder, function)) is not None:
            text = base64.b64encode(source.read_bytes()).decode()
            build = msgspec.structs.replace(build, function_source_code=text, path="")
            return ExportedFunction(function.with_spec(build=build))
        count = sum(entry.kind == "file" for entry in scan_folder(folder))
        return ExportedFunction(
            function, folder, f"the code of {name} ({count} files) is not in the export"
        )
    if function.spec.image and platform.artifact_kind == "image":
        image = f"it is in the image {function.spec.image}, which the export names"
        return ExportedFunction(
            function, missing=f"the code of {name} is not in the export; {image}"
        )
    return ExportedFunction(
        function, missing=f"no code of {name} is recorded, so the export has none"
    )


def _single_source(folder: Path, function: Function) -> Path | None:
    """Return the only source file, if a deploy of inline source would give it the same name."""
    files = [entry for entry in scan_folder(folder) if entry.kind != "folder"]
    sources = [entry for entry in files if entry.path not in _CONFIG_NAMES]
    module = function.spec.handler.partition(":")[0]
    if len(sources) != 1 or sources[0].kind != "file" or sources[0].executable:
        return None
    only = folder / sources[0].path
    return only if sources[0].path == f"{module.replace('.', '/')}.py" else None


def write_archive(
    archive: Path,
    document: Raw,
    functions: Mapping[str, tuple[Function, Path]],
    exporter: ConfigurationExporter | None,
) -> list[str]:
    """Write an export and the folders of its functions to a .tar.gz file.

    `exporter` cleans the configuration files among the code; None leaves them as they are. Returns
    warnings: files that could not be cleaned are left out.
    """
    warnings: list[str] = []
    half = archive.with_name(f".{archive.name}.{os.getpid()}")
    try:
        descriptor = os.open(half, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        with (
            open(descriptor, "wb") as file,
            gzip.GzipFile("", "wb", fileobj=file, mtime=0) as packed,
            tarfile.open(fileobj=packed, mode="w") as tar,
        ):
            _add_to_archive(tar, FileEntry("file", _DOCUMENT, _yaml(document)))
            for name, (function, folder) in functions.items():
                files = scan_folder(folder)
                if exporter is not None:
                    warnings += _export_configurations(files, function, exporter)
                for entry in files:
                    _add_to_archive(tar, entry, f"{_CODE}/{name}/{entry.path}")
        half.replace(archive)
    except OSError as error:
        raise InputError(f"cannot write {archive}: {error.strerror}") from error
    finally:
        with suppress(OSError):
            half.unlink(missing_ok=True)
    return warnings


def _export_configurations(
    files: FileTree, function: Function, exporter: ConfigurationExporter
) -> list[str]:
    """Replace the function's configuration files by exported configurations."""
    warnings = []
    for entry in list(files):
        if entry.kind != "file" or not _CONFIG.fullmatch(entry.path):
            continue
        if entry.path in _CONFIG_NAMES:
            files.add(FileEntry("file", entry.path, _yaml(exporter(function))))
            continue
        try:
            assert isinstance(entry.source, Path)
            text = entry.source.read_text("utf-8-sig")
            variant = reader.function_from_dict(yaml.safe_load(text), entry.path)
            files.add(FileEntry("file", entry.path, _yaml(exporter(variant))))
        except (OSError, ValueError, AttributeError, yaml.YAMLError, ConfigError):
            del files.entries[entry.path]
            name = function.metadata.name
            warnings.append(
                f"{name}: {entry.path} is left out: it cannot be read, and may hold secrets"
            )
    return warnings


def _yaml(raw: Raw) -> bytes:
    return yaml.safe_dump(raw, allow_unicode=True, sort_keys=False).encode()


def _add_to_archive(tar: tarfile.TarFile, entry: FileEntry, name: str = "") -> None:
    info = tarfile.TarInfo(name or entry.path)
    info.mode = 0o755 if entry.executable or entry.kind == "folder" else 0o644
    if entry.kind == "folder":
        info.type = tarfile.DIRTYPE
        tar.addfile(info)
    elif entry.kind == "link":
        info.type, info.linkname = tarfile.SYMTYPE, entry.target
        tar.addfile(info)
    elif isinstance(entry.source, bytes):
        info.size = len(entry.source)
        tar.addfile(info, io.BytesIO(entry.source))
    else:
        with entry.source.open("rb") as content:
            info.size = os.fstat(content.fileno()).st_size
            tar.addfile(info, content)


@dataclass(frozen=True, slots=True)
class ArchiveContent:
    """The content of an archive: the exported document, and code folders by function name."""

    document: bytes
    folders: Mapping[str, Path]


@contextmanager
def open_archive(archive: Path, name: str) -> Iterator[ArchiveContent]:
    """Unpack an export until the context ends. `name` is for messages.

    Raises `InputError` for an archive that is damaged, unsafe, or no export.
    """
    with trees.temporary_folder("fnbuild-import-") as room:
        root = room / "export"
        archives.unpack_archive(archive, root, name)
        file = root / _DOCUMENT
        if not file.is_file() or file.is_symlink():
            raise InputError(
                f"{name} holds no {_DOCUMENT}",
                hint="`fnbuild export functions --with-code FILE.tar.gz` writes such archives",
            )
        if file.stat().st_size > _LARGEST_DOCUMENT:
            raise InputError(f"{name}: {_DOCUMENT} is larger than {_LARGEST_DOCUMENT >> 20} MiB")
        yield ArchiveContent(file.read_bytes(), _code_folders(root / _CODE))


def _code_folders(root: Path) -> dict[str, Path]:
    if root.is_symlink() or not root.is_dir():
        return {}
    with suppress(OSError), os.scandir(root) as listing:
        return {
            entry.name: Path(entry.path) for entry in listing if entry.is_dir(follow_symlinks=False)
        }
    return {}


def is_archive(path: Path) -> bool:
    """Return True if a file to import is an archive rather than a document."""
    return path.is_file() and archives.archive_kind(path) is not None


def import_function(  # noqa: PLR0913 - one parameter for each option of an import
    platform: Platform,
    raw: Raw,
    namespace: str,
    origin: str,
    code: Path | None = None,
    *,
    autofix: bool = True,
) -> Deployment:
    """Record an exported function in state `imported`. It starts with its first deploy.

    `code` is the folder of the export; it is copied to the data directory. Defects that Nuclio
    repairs are repaired with a warning; without `autofix` they are errors. Raises `ConfigError`.
    """
    function, repair = reader.function_from_dict(raw, origin), ""
    if autofix:
        function, repair = import_rules.repair_replicas(function)
    import_rules.check_import_rules(function, origin)
    function = projects.with_project_label(function.with_metadata(namespace=namespace), None)
    projects.ensure_project(platform, function, None, lambda _: None)
    imported = platform.store_imported(function)
    key = (namespace, imported.name)
    if code is None:
        imported_code.remove(platform.name, key)
    else:
        imported_code.save(platform.name, key, code)
    return replace(imported, warnings=(*imported.warnings, repair)) if repair else imported
