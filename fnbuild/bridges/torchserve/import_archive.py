"""Make a function of a TorchServe archive.

The function's folder has the files of the archive with its manifest, by which the runtime finds the
handler, and a function.yaml. `requirements.txt` gets the packages that TorchServe's environment has
and the archive imports.
"""

from __future__ import annotations

import ast
import re
import shutil
import sys
import tempfile
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import msgspec

from fnbuild import trees
from fnbuild.bridges.torchserve.archive import (
    BUILT_IN_HANDLERS,
    TIME_STAMP,
    ArchiveManifest,
    number_setting,
    read_model_config,
    unpack,
)
from fnbuild.bridges.torchserve.content import ALL_REQUIREMENTS, ENTRY_FILE, OWN_ENTRIES
from fnbuild.bridges.torchserve.server_config import ModelSettings, ServerConfig
from fnbuild.errors import ConfigError, ConflictError, InputError
from fnbuild.function.function_rules import MAX_NAME_LENGTH
from fnbuild.function.reader import load_function
from fnbuild.function.types import Function, Raw
from fnbuild.function.yaml_writer import as_yaml
from fnbuild.runtime.torchserve import MANIFEST_PATH
from fnbuild.runtime.torchserve.imports import provided_names

_PACKAGES = {
    **{name: name for name in ("torch", "torchvision", "torchaudio", "torchtext", "numpy")},
    **{name: name for name in ("captum", "packaging", "psutil", "requests")},
    "PIL": "pillow",
    "yaml": "pyyaml",
}
"""Packages of TorchServe's images, by the modules that handlers import."""
_VISION = ("torch", "numpy", "pillow")
_HANDLER_PACKAGES = {
    "base_handler": _VISION[:1],
    **dict.fromkeys(("image_classifier", "image_segmenter", "object_detector"), _VISION),
    "vision_handler": _VISION,
}
"""The packages that TorchServe's own handlers need here, by their modules."""
_REQUIREMENTS = "requirements.txt"
_PYTHON_RUNTIMES = ("", "python", "python3")
_OLDEST_MINOR = 6
# The first magic numbers of modules that were compiled by Python 3.6, 3.7 and so on.
_MAGIC_NUMBERS = (3360, 3390, 3400, 3420, 3430, 3450, 3500, 3550, 3600)
_COMPILED_NAME = re.compile(r"[.-](?:cpython-|cp)3(\d{1,2})\b")


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportOptions:
    """The part of an archive in a server. Names that are empty are those of the archive.

    `settings` are those of the server's snapshot, which override the archive's own; `defaults` are
    those of `models`, which the archive's own override.
    """

    model_name: str = ""
    function_name: str = ""
    settings: ModelSettings | None = None
    defaults: Raw = field(default_factory=dict)
    server: ServerConfig = field(default_factory=ServerConfig)


def function_name(model: str) -> str:
    """Return the function's name for a model: the model's without its time, made valid."""
    name = _base_name(model).lower()
    return re.sub(r"[^a-z0-9]+", "-", name).strip("-")[:MAX_NAME_LENGTH].strip("-") or "model"


def _base_name(model: str) -> str:
    return re.sub(rf"{TIME_STAMP}\Z", "", model)


def import_archive(archive: Path, folder: Path, options: ImportOptions | None = None) -> Function:
    """Make the folder of a function that answers as the archive does; return the function.

    Of an archive that was made of a function, it is that function's folder. Raises `InputError` for
    an archive that cannot run, and `ConflictError` if the folder has files.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConflictError(f"{folder} exists already", hint="name another folder with `--path`")
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fnbuild-") as draft:
        unpacked = unpack(archive, Path(draft) / "archive")
        files = unpacked.folder
        if archive.is_dir():
            files = Path(shutil.copytree(archive, Path(draft) / "files"))
        if unpacked.manifest.model.handler == ENTRY_FILE:
            for entry in (*OWN_ENTRIES, ALL_REQUIREMENTS):
                trees.remove(files / entry)
        else:
            _Import(archive.name, files, unpacked.manifest, options or ImportOptions()).write()
        try:
            function = load_function(files).function
        except ConfigError as error:
            problem = error.report.errors[0]
            message = f"{archive.name} cannot be a function: {problem.message}"
            raise InputError(message, hint=problem.hint) from None
        if folder.exists():
            folder.rmdir()
        files.rename(folder)
    return function


@dataclass(frozen=True, slots=True)
class _Import:
    """The files of an archive in a folder that becomes a function's. `name` is the archive's."""

    name: str
    folder: Path
    manifest: ArchiveManifest
    options: ImportOptions

    @property
    def envelope(self) -> str:
        return self.manifest.model.envelope or self.options.server.service_envelope

    def write(self) -> None:
        """Write function.yaml and requirements.txt."""
        config = self.folder / "function.yaml"
        if config.exists():
            raise InputError(
                f"{self.name} has a file function.yaml, which is a function's configuration",
                hint="unpack the archive, and deploy that function",
            )
        values = dict(self.options.defaults)
        if file := self.manifest.model.config_file:
            # An archive with settings of its own gets no other time limits.
            values |= {"responseTimeout": 120, "startupTimeout": 120}
            values |= read_model_config((self.folder / file).read_bytes(), f"{self.name}: {file}")
        if self.options.settings is not None:
            values |= msgspec.to_builtins(self.options.settings)
        self._add_requirements()
        config.write_text(as_yaml(self._configuration(values)) + "\n", encoding="utf-8")

    def _add_requirements(self) -> None:
        """Add the packages that TorchServe's environment has and the archive needs."""
        own_file = self.manifest.model.requirements_file
        lines = self._missing_packages()
        lines += [f"-r {own_file}"] if own_file not in ("", _REQUIREMENTS) else []
        if lines:
            with (self.folder / _REQUIREMENTS).open("a", encoding="utf-8") as file:
                file.write("\n" if file.tell() else "")
                file.write("# Packages of TorchServe's environment that the model needs.\n")
                file.writelines(f"{line}\n" for line in lines)

    def _configuration(self, values: Raw) -> Raw:
        """Return function.yaml for the settings of the model."""
        model, server = self.manifest.model, self.options.server
        number = partial(number_setting, values)
        timeout = number("responseTimeout", server.default_response_timeout) or 120
        workers = number("maxWorkers", number("minWorkers", 0))
        if "/" in model.model_version:
            raise InputError(
                f"{self.name} has the version {model.model_version!r}, which no path can have",
                hint=f"unpack it, set another modelVersion in {MANIFEST_PATH}, and import the"
                " folder",
            )
        batch_size = number("batchSize", 1)
        model_name = self.options.model_name or _base_name(model.model_name)
        name = self.options.function_name or function_name(model_name)
        attributes: Raw = {"protocols": ["torchserve"]}
        attributes |= {"model": model_name} if model_name != name else {}
        attributes["version"] = model.model_version
        attributes |= {
            "maxRequestBodySize": server.max_request_size,
            "maxBacklog": server.job_queue_size,
        }
        trigger: Raw = {
            "kind": "http",
            "maxWorkers": workers or server.default_workers_per_model or 1,
            # Requests wait in TorchServe's queue as long as it takes.
            "workerAvailabilityTimeoutMilliseconds": timeout * 1000,
            "attributes": attributes,
        }
        if batch_size > 1:
            delay = number("maxBatchDelay", 100)
            trigger["batch"] = {"mode": "enable", "batchSize": batch_size, "timeout": f"{delay}ms"}
        python = f"python:{self._python_version()}"
        spec: Raw = {
            "description": f"The model {model.model_name} {model.model_version} of TorchServe",
            "runtime": python,
            "handler": f"{model.handler_module}:{model.handler.partition(':')[2] or 'handle'}",
            "eventTimeout": f"{timeout}s",
            "readinessTimeoutSeconds": number("startupTimeout", 120),
            "build": {"baseImage": f"{python}-slim-bookworm"},
            "triggers": {"http": trigger},
        }
        variables = self._variables(batch_size)
        if variables:
            spec["env"] = [{"name": key, "value": value} for key, value in variables.items()]
        if values.get("deviceType") == "gpu":
            devices = values.get("deviceIds")
            count = len(devices) if isinstance(devices, list) else 1
            spec["resources"] = {"limits": {"nvidia.com/gpu": count or 1}}
        return {"metadata": {"name": name}, "spec": spec}

    def _variables(self, batch_size: int) -> dict[str, str]:
        """Return the server's settings for handlers, as TorchServe's variables name them."""
        other = self.options.server.other
        variables = {"TS_SERVICE_ENVELOPE": self.envelope}
        variables["TS_BATCH_SIZE"] = str(batch_size) if batch_size > 1 else ""
        for key in ("decode_input_request", "limit_max_image_pixels"):
            variables[f"TS_{key.upper()}"] = other.get(key, "").lower()
        return {key: value for key, value in variables.items() if value}

    def _python_version(self) -> str:
        """Return the version of Python that the archive needs, by default that of fnbuild."""
        if self.manifest.runtime not in _PYTHON_RUNTIMES:
            raise InputError(
                f"{self.name} has the runtime {self.manifest.runtime}, and fnbuild runs python",
                hint="serve it with `--platform torchserve`",
            )
        versions = {minor: file for file, minor in self._compiled_files()}
        if len(versions) > 1 or min(versions, default=_OLDEST_MINOR) < _OLDEST_MINOR:
            needs = (f"{file} is for Python 3.{minor}" for minor, file in versions.items())
            raise InputError(
                f"{self.name} cannot run with one Python from 3.6 on: {', '.join(needs)}",
                hint="make the archive again with its sources, for one version of Python",
            )
        return f"3.{next(iter(versions), sys.version_info.minor)}"

    def _compiled_files(self) -> Iterator[tuple[str, int]]:
        """Yield the files that are compiled for a Python, with its minor version."""
        for path in sorted(self.folder.rglob("*")):
            match = _COMPILED_NAME.search(path.name)
            if path.suffix == ".pyc" and path.is_file():
                with path.open("rb") as file:
                    magic = int.from_bytes(file.read(2), "little")
                yield path.name, _OLDEST_MINOR + bisect_right(_MAGIC_NUMBERS, magic) - 1
            elif match and path.suffix in (".so", ".whl"):
                yield path.name, int(match[1])

    def _missing_packages(self) -> list[str]:
        """Return the packages of TorchServe's environment that the archive needs and lacks."""
        model = self.manifest.model
        needed = {"pyyaml"} if model.config_file else set()
        if self.envelope == "kservev2":
            needed.add("numpy")
        provided = provided_names()
        for module in self._imported_modules():
            needed.update(filter(None, [_PACKAGES.get(module.partition(".")[0])]))
            if module.startswith("ts."):
                needed.update(_HANDLER_PACKAGES.get(module.rpartition(".")[2], ()))
                needed.update([] if module in provided else ["torchserve"])
        file = self.folder / (model.requirements_file or _REQUIREMENTS)
        text = file.read_text(encoding="utf-8", errors="replace") if file.exists() else ""
        named = {name.lower() for name in re.findall(r"^\s*([A-Za-z0-9_.-]+)", text, re.MULTILINE)}
        return sorted(needed - named)

    def _imported_modules(self) -> Iterator[str]:
        handler = self.manifest.model.handler_module
        if handler in BUILT_IN_HANDLERS and not (self.folder / f"{handler}.py").exists():
            yield f"ts.torch_handler.{handler}"
        for path in sorted(self.folder.rglob("*.py")):
            for node in ast.walk(self._parse(path)):
                if isinstance(node, ast.Import):
                    yield from (alias.name for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    yield node.module

    def _parse(self, path: Path) -> ast.Module:
        try:
            return ast.parse(path.read_bytes())
        except (SyntaxError, ValueError) as error:
            place = f"{path.name}:{getattr(error, 'lineno', None) or 1}"
            raise InputError(
                f"{self.name}: {place} is not Python 3: {getattr(error, 'msg', error)}",
                hint="make the archive again with sources for Python 3",
            ) from None
