"""The files that go into an archive."""

from __future__ import annotations

import filecmp
import glob
import os
import pprint
import re
from dataclasses import dataclass, field
from pathlib import Path

import fnbuild
from fnbuild.builder import sdk
from fnbuild.builder.image.context import redacted_configs
from fnbuild.builder.processor_settings import processor_settings
from fnbuild.builder.requirements import collect_requirements, pip_options
from fnbuild.builder.staging import scan_folder
from fnbuild.errors import InputError
from fnbuild.function.secrets import secret_variables
from fnbuild.function.types import Function, to_dict
from fnbuild.runtime.storage.uris import URI_VARIABLE
from fnbuild.runtime.torchserve import MANIFEST_PATH

ENTRY_FILE = "fnbuild_handler.py"

_ENTRY = '''\
"""The entry point of the function {name} in TorchServe, written by fnbuild."""

from fnbuild.runtime.torchserve.archive_handler import ArchivedFunction

SETTINGS = {settings}

handle = ArchivedFunction(SETTINGS).handle
'''
OWN_ENTRIES = ("MAR-INF", "fnbuild", "nuclio_sdk", ENTRY_FILE)
"""Entries at the root of a function's archive that are not the function's."""
_RUNTIME = (
    "__init__.py",
    "runtime/*.py",
    "runtime/worker/*.py",
    "runtime/kserve/*.py",
    "runtime/protocols/*.py",
    "runtime/torchserve/*.py",
    "vision/*.py",
)
# TorchServe 0.12 needs at least this Python.
_PYTHON = (3, 8, 0)
_REQUIREMENTS = "requirements.txt"
ALL_REQUIREMENTS = "fnbuild-requirements.txt"
_INDEX_OPTIONS = ("-i", "--index-url", "--extra-index-url", "-f", "--find-links")
_TORCH = re.compile(r"torch(vision|audio)?\b(?!-)")


@dataclass(slots=True)
class ArchiveContent:
    """Files by their paths in the archive, and warnings about what it lacks."""

    files: dict[str, Path | bytes] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)

    def add(self, path: str, source: Path | bytes) -> None:
        """Add a file. Raises `InputError` if there is none, or another with that path."""
        if isinstance(source, Path) and not source.is_file():
            raise InputError(f"there is no file {source}", hint="correct the path")
        earlier = self.files.setdefault(path, source)
        if earlier is source or (
            isinstance(earlier, Path)
            and isinstance(source, Path)
            and filecmp.cmp(earlier, source, shallow=False)
        ):
            return
        places = " and ".join(str(part) for part in (earlier, source) if isinstance(part, Path))
        raise InputError(
            f"two files would be {path} in the archive: {places}", hint="rename one of them"
        )

    def add_extra_files(self, patterns: str) -> None:
        """Add files, and the content of folders, from paths and patterns between commas."""
        for pattern in filter(None, map(str.strip, patterns.split(","))):
            paths = [pattern] if os.path.exists(pattern) else sorted(glob.glob(pattern))
            if not paths:
                raise InputError(f"there is no file {pattern}", hint="correct `--extra-files`")
            for path in map(Path, paths):
                if path.is_dir():
                    self._add_folder(path)
                else:
                    self.add(path.name, path)

    def _add_folder(self, folder: Path) -> None:
        for entry in scan_folder(folder):
            path = (folder / entry.path).resolve()
            if entry.kind == "link" and not path.is_file():
                raise InputError(
                    f"the link {folder / entry.path} does not lead to a file",
                    hint="archives have no links: copy the folder, or remove the link",
                )
            if entry.kind != "folder":
                self.add(entry.path, path)

    def add_function(self, function: Function, folder: Path) -> None:
        """Add the code of a function, its entry module, and what they need to run."""
        handler = function.spec.handler.partition(":")[0].replace(".", "/")
        self._add_folder(folder)
        if reserved := sorted(path for path in self.files if path.split("/")[0] in OWN_ENTRIES):
            raise InputError(f"an archive has its own {reserved[0]}", hint="rename the file")
        if not {f"{handler}.py", f"{handler}/__init__.py"} & self.files.keys():
            raise InputError(
                f"the handler {function.spec.handler!r} does not exist: the folder has no"
                f" {handler}.py",
                hint="correct spec.handler",
            )
        self.files |= redacted_configs(folder, list(self.files))
        package = Path(fnbuild.__file__).parent
        for pattern in _RUNTIME:
            for path in package.glob(pattern):
                self.add(f"fnbuild/{path.relative_to(package)}", path)
        release = sdk.ensure_sdk(_PYTHON)
        for path in release.rglob("*.py"):
            self.add(str(path.relative_to(release)), path)
        self.add(ENTRY_FILE, self._entry_module(function).encode())

    def add_archive(self, folder: Path) -> None:
        """Add the files of an archive that is the folder of a function."""
        self._add_folder(folder)
        for path in (MANIFEST_PATH, "function.yaml"):
            self.files.pop(path, None)

    def _entry_module(self, function: Function) -> str:
        env = {variable.name: variable.value for variable in function.spec.env}
        hidden = {name for name, _ in secret_variables(to_dict(function))}
        hidden |= {variable.name for variable in function.spec.env if variable.value_from}
        if hidden:
            self.warnings.append(
                f"{', '.join(sorted(hidden))}: the archive has no secret values; set them in the"
                " environment of the server"
            )
        if env.get(URI_VARIABLE):
            self.warnings.append(
                f"TorchServe does not download the model of {URI_VARIABLE}: pack its files with"
                " `--extra-files`, or mount them into the server"
            )
        settings = processor_settings(function)
        settings["env"] = {name: value for name, value in env.items() if name not in hidden}
        text = pprint.pformat(settings, sort_dicts=False)
        return _ENTRY.format(name=function.metadata.name, settings=text)

    def add_requirements(self, function: Function, folder: Path) -> str:
        """Add a file with the packages that pip installs for a function; return its name or "".

        It is the function's own requirements.txt unless other lines of the build run pip.
        """
        requirements = collect_requirements(function, folder)
        if requirements.ignored:
            self.warnings.append(
                "these lines need an image, and have no effect on the archive: "
                + "; ".join(requirements.ignored)
            )
        if any(_TORCH.match(package) for package in requirements.packages):
            self.warnings.append(
                "the requirements name torch: a server with install_py_dep_per_model installs it"
                " again for each model; remove it if the server's own will do"
            )
        steps = [step for step in requirements.steps if step.verb == "install"]
        if [step.place for step in steps] in ([], [_REQUIREMENTS]):
            return _REQUIREMENTS if steps else ""
        lines: list[str] = []
        for step in steps:
            options = pip_options(step.arguments)
            lines += [f"{name} {value}" for name, value in options if name in _INDEX_OPTIONS]
            lines += [value for name, value in pip_options(step.arguments) if not name]
            lines += step.requirements
        text = "\n".join(dict.fromkeys(lines)).replace(f"{folder.resolve()}/", "./")
        self.add(ALL_REQUIREMENTS, f"{text}\n".encode())
        return ALL_REQUIREMENTS
