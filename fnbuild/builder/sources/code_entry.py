"""Open the code that a path or a configuration names; remote code comes to a temporary folder.

As in Nuclio (pkg/processor/build/builder.go), archives are recognized by their content, a URL is
one file or an archive, and `codeEntryType` takes precedence over the path.
"""

from __future__ import annotations

import os
import re
import tempfile
import urllib.parse
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from fnbuild import trees
from fnbuild.builder.sources import archives, download, git, s3
from fnbuild.errors import InputError, Report
from fnbuild.function import reader
from fnbuild.function.files import CONFIG_NAMES, displayed_as, locate_files
from fnbuild.function.types import Build
from fnbuild.progress import Progress

_PLAIN_SUFFIXES = (".py", ".yaml", ".yml", ".json")
FETCHED_ENTRY_TYPES = ("archive", "github", "git", "s3")
_FORMATS_HINT = "use a folder, a .yaml or .py file, or a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2"
_UNPACK_HINT = "unpack it, and pass one of these folders"
_WORK_DIR_HINT = (
    "`codeEntryAttributes: {workDir: FOLDER}` beside its `codeEntryType` selects one of them"
)


@dataclass(frozen=True, slots=True)
class OpenedCode:
    """The code for the reader.

    `path` is None if there is none (inline source, an image). `config_file` is set if the
    configuration is not beside the code that it names.
    """

    path: Path | None
    config_file: Path | None = None


@contextmanager
def open_code(
    path: str | Path | None,
    *,
    build: Build | None = None,
    config_file: Path | None = None,
    follow: bool = True,
    progress: Progress = lambda _: None,
) -> Iterator[OpenedCode]:
    """Provide the code of a function until the context ends.

    A folder, a YAML file and a source file are returned unchanged; an archive, a URL and a
    repository come to a private temporary folder. `build` contains what flags say about the code.
    Without flags, the configuration at the path may name another place, unless `follow` is False.

    Raises `InputError`, `BuildError` or `UnavailableError`.
    """
    flags = Build() if build is None else build
    with ExitStack() as stack:
        temporary = _TemporaryCode(stack, progress)
        if flags.code_entry_type in FETCHED_ENTRY_TYPES:
            url = flags.path or ("" if path is None else str(path))
            yield OpenedCode(temporary.open_entry(flags, url), config_file)
            return
        local_path = temporary.open_path(path) if path is not None else None
        may_follow = follow and not flags.function_source_code
        configured = _configured_source(local_path, config_file) if may_follow else None
        if configured is None:
            yield OpenedCode(local_path, config_file)
            return
        config, named_build = configured
        yield OpenedCode(temporary.open_entry(named_build, named_build.path), config)


def _configured_source(path: Path | None, config_file: Path | None) -> tuple[Path, Build] | None:
    """Return the configuration, and its build, if it names a remote place for the code."""
    place = path if path is not None else config_file
    located = locate_files(place, config_file, Report()) if place is not None else None
    if located is None or located.config is None:
        return None
    try:
        text = located.config.read_text("utf-8-sig", errors="replace")
    except OSError:
        return None  # the reader reports the error
    if "path" not in text and "codeEntry" not in text:
        return None
    build = reader.function_from_text(text, str(located.config))[0].spec.build
    return (located.config, build) if _is_remote(build) else None


def _is_remote(build: Build) -> bool:
    is_remote = build.code_entry_type in FETCHED_ENTRY_TYPES or (
        not build.code_entry_type and download.is_url(build.path)
    )
    return is_remote and not build.function_source_code


def is_code_fetched(build: Build) -> bool:
    """Return True if a deploy fetches the code from a place that the configuration names."""
    return _is_remote(build) and bool(build.path or build.code_entry_type == "s3")


class _TemporaryCode:
    """A temporary folder, created when it is needed, and the ways in which code gets there."""

    def __init__(self, stack: ExitStack, progress: Progress):
        self._stack = stack
        self._progress = progress

    @cached_property
    def _folder(self) -> Path:
        return self._stack.enter_context(trees.temporary_folder("fnbuild-source-"))

    def _new_folder(self) -> Path:
        """Create an empty folder."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    def open_path(self, path: str | Path) -> Path:
        """Open a path of the command line."""
        text = str(path)
        if isinstance(path, str) and download.is_url(text):
            return self._download(download.parse_address(text), "")
        place = Path(path)
        if place.suffix.lower() in _PLAIN_SUFFIXES or not place.is_file():
            return place
        if archives.archive_kind(place) is not None:
            return self._unpack(place, text, "", _UNPACK_HINT)
        if archives.archive_stem(place.name) != place.name:
            raise InputError(
                f"{text} is not a readable archive{_describe_content(place)}",
                hint=_FORMATS_HINT,
            )
        return place  # the reader reports what it can read

    def open_entry(self, build: Build, url: str) -> Path:
        """Open the code that `codeEntryType` and its attributes name."""
        attributes = build.code_entry_attributes
        work_dir = str(attributes.get("workDir") or "")
        if build.code_entry_type == "git":
            root = self._new_folder() / _repository_name(url)
            git.fetch_commit(url, attributes, root, self._progress)
            display_url = download.printable_url(url)
            return self._find_function(root, work_dir, display_url, _WORK_DIR_HINT)
        if build.code_entry_type == "github":
            url = github_archive_url(url, str(attributes.get("branch") or ""))
        elif build.code_entry_type == "s3":
            url = s3.object_url(attributes)
        if not download.is_url(url):
            entry_type = build.code_entry_type or "a path"
            raise InputError(
                f"codeEntryType {entry_type} needs a URL in build.path, not {url!r}",
                hint="for example `path: https://example.com/code.zip`",
            )
        headers = attributes.get("headers") or {}
        if not isinstance(headers, dict):
            raise InputError("codeEntryAttributes.headers is a mapping of names to values")
        digest = str(attributes.get("sha256") or "")
        return self._download(download.parse_address(url, headers, digest), work_dir)

    def _download(self, address: download.DownloadAddress, work_dir: str) -> Path:
        file = download.download_file(address, self._new_folder(), self._progress)
        if archives.archive_kind(file) is not None:
            return self._unpack(file, address.display_url, work_dir, _WORK_DIR_HINT)
        if file.suffix.lower() in _PLAIN_SUFFIXES and not _is_web_page(file):
            return file
        raise InputError(
            f"{address.display_url} is neither an archive nor a .py or .yaml file"
            f"{_describe_content(file)}",
            hint="a .zip, .tar.gz, .tar.xz or .tar.bz2 with function.yaml in it, or one .py file",
        )

    def _unpack(self, archive: Path, display_name: str, work_dir: str, hint: str) -> Path:
        self._progress(f"unpacking {display_name}")
        root = self._new_folder() / archives.archive_stem(archive.name)
        archives.unpack_archive(archive, root, display_name)
        return self._find_function(root, work_dir, display_name, hint)

    def _find_function(self, root: Path, work_dir: str, display_name: str, hint: str) -> Path:
        self._stack.enter_context(displayed_as(root, display_name, hint))
        return _function_folder(root, work_dir, display_name)


def _function_folder(root: Path, work_dir: str, display_name: str) -> Path:
    """Return the folder of the function in an unpacked archive or a repository.

    Archives often contain one folder with everything in it; then that folder is used.
    """
    only_folder = _only_folder(root)
    parts = [part for part in work_dir.split("/") if part not in ("", ".")]
    if not parts:
        return root if only_folder is None or _holds_code(root) else only_folder
    if ".." in parts:
        raise InputError(f"workDir {work_dir!r} is outside of {display_name}")
    for base in (root, only_folder):
        if base is None:
            continue
        candidate = base.joinpath(*parts)
        if candidate.is_dir() and candidate.resolve().is_relative_to(root.resolve()):
            return candidate
    folders = sorted(entry.name for entry in (only_folder or root).iterdir() if entry.is_dir())
    hint = f"folders there: {', '.join(folders[:20])}" if folders else "it has no folders"
    raise InputError(f"workDir {work_dir!r} is not a folder of {display_name}", hint=hint)


def _only_folder(root: Path) -> Path | None:
    entries = list(root.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
        return entries[0]
    return None


def _holds_code(root: Path) -> bool:
    return any((root / name).is_file() for name in CONFIG_NAMES)


def _repository_name(url: str) -> str:
    """Return the name of a repository, for its folder."""
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^\w.+-]", "_", last).lstrip(".") or "code"


def github_archive_url(url: str, branch: str) -> str:
    """Return the URL of a repository's archive at GitHub, as in Nuclio. Raises `InputError`."""
    parts = urllib.parse.urlsplit(url)
    match = re.fullmatch(r"/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", parts.path)
    if parts.scheme != "https" or parts.netloc not in ("github.com", "www.github.com") or not match:
        raise InputError(
            f"codeEntryType github needs the address of a GitHub repository, not {url!r}",
            hint="for example `path: https://github.com/owner/repository`; other repositories need"
            " codeEntryType git",
        )
    if not branch:
        raise InputError("codeEntryType github needs codeEntryAttributes.branch")
    name = urllib.parse.quote(branch)
    return f"https://api.github.com/repos/{match[1]}/{match[2]}/zipball/{name}"


def _describe_content(file: Path) -> str:
    with file.open("rb") as content:
        head = content.read(60)
    if not head:
        return ": it is empty"
    if _is_web_page(file):
        return ": it is a web page, such as a login page"
    return f": it begins with {os.fsdecode(head[:24])!r}"


def _is_web_page(file: Path) -> bool:
    with file.open("rb") as content:
        head = content.read(512).lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html"))
