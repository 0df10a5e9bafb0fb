"""Opens what a path or a configuration names as code: what is elsewhere comes to a private folder.

Follows Nuclio (pkg/processor/build/builder.go): archives are told by their content, a URL is one
file or an archive, `codeEntryType` goes before the path.
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
from fnbuild.builder.sources.limits import SourceLimits
from fnbuild.errors import InputError, Report
from fnbuild.function import reader
from fnbuild.function.files import CONFIG_NAMES, displayed_as, locate_files
from fnbuild.function.types import Build
from fnbuild.progress import Progress

_PLAIN_SUFFIXES = (".py", ".yaml", ".yml", ".json")
FETCHED_ENTRY_TYPES = ("archive", "github", "git", "s3")
_FORMATS_HINT = (
    "a folder, a .yaml or .py file is taken, or a .zip, .tar, .tar.gz, .tar.xz or .tar.bz2"
)
_UNPACK_HINT = "unpack it, and give one of these folders"
_WORK_DIR_HINT = (
    "`codeEntryAttributes: {workDir: FOLDER}` beside its `codeEntryType` takes one of them"
)


@dataclass(frozen=True, slots=True)
class OpenedCode:
    """What to hand to the reader.

    `path` is None when there is none (inline source, an image). `config_file` is set when the
    configuration does not lie with the code that it names.
    """

    path: Path | None
    config_file: Path | None = None


@contextmanager
def open_code(  # noqa: PLR0913 - one keyword for each thing a person can give
    path: str | Path | None,
    *,
    build: Build | None = None,
    config_file: Path | None = None,
    follow: bool = True,
    progress: Progress = lambda _: None,
    limits: SourceLimits | None = None,
) -> Iterator[OpenedCode]:
    """The code of a function, for as long as the context lasts.

    A folder, a YAML file and a source file are given back as they are; an archive, a URL and a
    repository come to a private temporary folder. `build` holds what flags say of the code;
    without anything there, the configuration that is found at the path may name another place,
    which `follow` forbids.

    Raises `InputError`, `BuildError` or `UnavailableError`, with what was to be opened, the cause
    and the remedy.
    """
    flags = Build() if build is None else build
    with ExitStack() as stack:
        room = _TemporaryCode(stack, progress, SourceLimits() if limits is None else limits)
        if flags.code_entry_type in FETCHED_ENTRY_TYPES:
            url = flags.path or ("" if path is None else str(path))
            yield OpenedCode(room.entry(flags, url), config_file)
            return
        here = room.plain(path) if path is not None else None
        asked = follow and not flags.function_source_code
        found = _configured_source(here, config_file) if asked else None
        if found is None:
            yield OpenedCode(here, config_file)
            return
        config, named = found
        yield OpenedCode(room.entry(named, named.path), config)


def _configured_source(path: Path | None, config_file: Path | None) -> tuple[Path, Build] | None:
    """The configuration that names a place elsewhere as its code's, and what it says of it."""
    where = path if path is not None else config_file
    located = locate_files(where, config_file, Report()) if where is not None else None
    if located is None or located.config is None:
        return None
    try:
        text = located.config.read_text("utf-8-sig", errors="replace")
    except OSError:
        return None  # the reader says so
    if "path" not in text and "codeEntry" not in text:
        return None
    build = reader.parse_function(text, str(located.config))[0].spec.build
    return (located.config, build) if _is_elsewhere(build) else None


def _is_elsewhere(build: Build) -> bool:
    elsewhere = build.code_entry_type in FETCHED_ENTRY_TYPES or (
        not build.code_entry_type and download.is_url(build.path)
    )
    return elsewhere and not build.function_source_code


def is_code_fetched(build: Build) -> bool:
    """Return True if a deploy fetches the code from a place that the configuration names."""
    return _is_elsewhere(build) and bool(build.path or build.code_entry_type == "s3")


class _TemporaryCode:
    """A temporary folder, made when something comes into it, and how code gets there."""

    def __init__(self, stack: ExitStack, progress: Progress, limits: SourceLimits):
        self._stack = stack
        self._progress = progress
        self._limits = limits

    @cached_property
    def _folder(self) -> Path:
        return self._stack.enter_context(trees.temporary_folder("fnbuild-source-"))

    def _corner(self) -> Path:
        """An empty folder: what is opened may name something else that is to be opened."""
        return Path(tempfile.mkdtemp(dir=self._folder))

    def plain(self, path: str | Path) -> Path:
        """A path of the command line."""
        text = str(path)
        if isinstance(path, str) and download.is_url(text):
            return self._fetched(download.parse_address(text), "")
        place = Path(path)
        if place.suffix.lower() in _PLAIN_SUFFIXES or not place.is_file():
            return place
        if archives.archive_kind(place) is not None:
            return self._unpacked(place, text, "", _UNPACK_HINT)
        if archives.archive_stem(place.name) != place.name:
            raise InputError(
                f"{text} is no archive that can be read{_describe_content(place)}",
                hint=_FORMATS_HINT,
            )
        return place  # the reader says what it can read

    def entry(self, build: Build, url: str) -> Path:
        """What `codeEntryType` and its attributes name."""
        attributes = build.code_entry_attributes
        work_dir = str(attributes.get("workDir") or "")
        if build.code_entry_type == "git":
            root = self._corner() / _repository_name(url)
            git.clone_repository(url, attributes, root, self._progress, self._limits)
            shown = download.redact_address(url)
            return self._shown(root, work_dir, shown, _WORK_DIR_HINT)
        if build.code_entry_type == "github":
            url = github_archive_url(url, str(attributes.get("branch") or ""))
        elif build.code_entry_type == "s3":
            url = s3.object_url(attributes)
        if not download.is_url(url):
            what = build.code_entry_type or "a path"
            raise InputError(
                f"codeEntryType {what} needs a URL in build.path, not {url!r}",
                hint="as in `path: https://example.com/code.zip`",
            )
        headers = attributes.get("headers") or {}
        if not isinstance(headers, dict):
            raise InputError("codeEntryAttributes.headers is a mapping of names to values")
        digest = str(attributes.get("sha256") or "")
        return self._fetched(download.parse_address(url, headers, digest), work_dir)

    def _fetched(self, address: download.DownloadAddress, work_dir: str) -> Path:
        file = download.download_file(address, self._corner(), self._progress, self._limits)
        if archives.archive_kind(file) is not None:
            return self._unpacked(file, address.shown, work_dir, _WORK_DIR_HINT)
        if file.suffix.lower() in _PLAIN_SUFFIXES and not _is_web_page(file):
            return file
        raise InputError(
            f"{address.shown} is neither an archive nor a .py or .yaml file"
            f"{_describe_content(file)}",
            hint="a .zip, .tar.gz, .tar.xz or .tar.bz2 with function.yaml in it, or one .py file",
        )

    def _unpacked(self, archive: Path, shown: str, work_dir: str, choice: str) -> Path:
        self._progress(f"unpacking {shown}")
        root = self._corner() / archives.archive_stem(archive.name)
        archives.unpack_archive(archive, root, shown, self._limits)
        return self._shown(root, work_dir, shown, choice)

    def _shown(self, root: Path, work_dir: str, shown: str, choice: str) -> Path:
        self._stack.enter_context(displayed_as(root, shown, choice))
        return _function_folder(root, work_dir, shown)


def _function_folder(root: Path, work_dir: str, shown: str) -> Path:
    """The folder of the function in what was unpacked.

    Archives often hold one folder with everything in it, and what is in there is meant.
    """
    only = _only_folder(root)
    parts = [part for part in work_dir.split("/") if part not in ("", ".")]
    if not parts:
        return root if only is None or _holds_code(root) else only
    if ".." in parts:
        raise InputError(f"workDir {work_dir!r} leads out of {shown}")
    for base in (root, only):
        if base is None:
            continue
        place = base.joinpath(*parts)
        if place.is_dir() and place.resolve().is_relative_to(root.resolve()):
            return place
    there = sorted(entry.name for entry in (only or root).iterdir() if entry.is_dir())
    hint = f"folders there: {', '.join(there[:20])}" if there else "there are no folders in it"
    raise InputError(f"workDir {work_dir!r} is not a folder of {shown}", hint=hint)


def _only_folder(root: Path) -> Path | None:
    entries = list(root.iterdir())
    if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
        return entries[0]
    return None


def _holds_code(root: Path) -> bool:
    return any((root / name).is_file() for name in CONFIG_NAMES)


def _repository_name(url: str) -> str:
    """The name of a repository, for the folder it comes to."""
    last = re.split(r"[/:]", url.rstrip("/"))[-1].removesuffix(".git")
    return re.sub(r"[^\w.+-]", "_", last).lstrip(".") or "code"


def github_archive_url(url: str, branch: str) -> str:
    """The address of a repository's archive at GitHub, as Nuclio makes it. Raises `InputError`."""
    parts = urllib.parse.urlsplit(url)
    found = re.fullmatch(r"/([\w.-]+)/([\w.-]+?)(?:\.git)?/?", parts.path)
    if parts.scheme != "https" or parts.netloc not in ("github.com", "www.github.com") or not found:
        raise InputError(
            f"codeEntryType github needs the address of a repository there, not {url!r}",
            hint="as in `path: https://github.com/owner/repository`; others are codeEntryType git",
        )
    if not branch:
        raise InputError("codeEntryType github needs codeEntryAttributes.branch")
    name = urllib.parse.quote(branch)
    return f"https://api.github.com/repos/{found[1]}/{found[2]}/zipball/{name}"


def _describe_content(file: Path) -> str:
    with file.open("rb") as content:
        head = content.read(60)
    if not head:
        return ": it is empty"
    if _is_web_page(file):
        return ": it is a web page, such as one that asks to log in"
    return f": it begins with {os.fsdecode(head[:24])!r}"


def _is_web_page(file: Path) -> bool:
    with file.open("rb") as content:
        head = content.read(512).lstrip().lower()
    return head.startswith((b"<!doctype html", b"<html"))
