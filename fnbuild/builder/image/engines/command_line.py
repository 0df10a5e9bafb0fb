"""Base classes of engines that are driven by a command line: docker, podman and buildah.

The arguments are docker's; podman supports them all, and buildah some. Each difference is a method
of the subclasses.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import shlex
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from fnbuild.builder.image.dockerfile_parser import referenced_images
from fnbuild.builder.image.engine import (
    BuildRequest,
    CompletedProgram,
    HistoryEntry,
    ImageMetadata,
    StepError,
)
from fnbuild.builder.image.engines import client
from fnbuild.builder.image.engines.build_output import BuildahOutput, BuildOutput
from fnbuild.builder.image.engines.errors import (
    clean_output,
    engine_error,
    load_error,
    missing_image_message,
    not_an_image_error,
)
from fnbuild.builder.image.references import is_local_registry, registry_of
from fnbuild.errors import BuildError, InputError, UnavailableError
from fnbuild.progress import Progress

_QUERY_SECONDS = 60.0
_IMAGE_NOT_FOUND = re.compile(r"[Nn]o such image|image not known|not found|does not exist")
_LOADED = re.compile(r"Loaded images?(?: ID)?(?:\(s\))?:\s*(.+)")
_ENGINE_FAILED = 125
"""The status of `run` if the engine failed instead of the program in the container."""

_FIRST_WITH_HEREDOCS = (1, 33)


class CommandLineEngine(ABC):
    """An engine that is driven by its command line; `program` is a name on PATH, or a path."""

    name: ClassVar[str]
    _remove_command: ClassVar[tuple[str, ...]] = ("rm", "--force")

    def __init__(self, program: str = "") -> None:
        self.program = program or self.name
        self.selection_reason = ""
        self._inspected: dict[str, ImageMetadata] = {}

    @abstractmethod
    def check(self) -> None:
        """Raise `UnavailableError` if the engine is not installed or does not answer."""

    def build(self, request: BuildRequest, progress: Progress) -> str:
        try:
            return self._build_once(request, progress)
        except StepError as error:
            if not self._lost_intermediate_image(error):
                raise
        progress("an intermediate image was removed during the build; building again")
        return self._build_once(request, progress)

    def _lost_intermediate_image(self, error: StepError) -> bool:
        """Return True if a step lacks the image of the previous one.

        Docker's classic builder keeps each step as an image, which is removed with the last image
        that was built from it.
        """
        named = error.instruction.startswith("FROM") or "--from=" in error.instruction
        return not named and missing_image_message(self.name) in error.message

    def _build_once(self, request: BuildRequest, progress: Progress) -> str:
        text = _read_dockerfile(request.dockerfile)
        if not request.pull:
            self._require_images(referenced_images(text, request.args))
        build_output = self._output_parser(text, progress, offline=request.network == "none")
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            output_file = Path(folder, "id")
            arguments = [
                *self._build_command(),
                "--iidfile",
                str(output_file),
                *_build_options(request),
            ]
            try:
                status = client.run_streaming(
                    [self.program, *arguments, *request.flags, str(request.context)],
                    build_output.feed,
                    self._environment(),
                    request.timeout,
                )
            except TimeoutError:
                raise build_output.timeout_error(request.timeout or 0.0) from None
            if status != 0:
                raise build_output.failure(self.name)
            return with_digest_algorithm(output_file.read_text().strip())

    def inspect(self, reference: str) -> ImageMetadata | None:
        # Images that are referenced by id never change.
        if reference in self._inspected:
            return self._inspected[reference]
        result = self._query("image", "inspect", reference)
        if result.status == 0:
            metadata = self._metadata(json.loads(result.out)[0])
            self._inspected[metadata.id] = metadata
            return metadata
        if _IMAGE_NOT_FOUND.search(result.err):
            return None
        raise engine_error(f"the image {reference} cannot be read", result.err, engine=self.name)

    def images(self, label: str) -> list[ImageMetadata]:
        ids = self._labelled(label)
        # An image that is removed meanwhile causes an error; the metadata of the others is printed.
        result = self._query("image", "inspect", *ids) if ids else None
        return [self._metadata(raw) for raw in json.loads(result.out or "[]")] if result else []

    def _labelled(self, label: str) -> list[str]:
        arguments = ("images", "--quiet", "--no-trunc", "--filter", f"label={label}")
        return list(
            dict.fromkeys(self._run_checked("the images cannot be listed", *arguments).split())
        )

    @abstractmethod
    def history(self, reference: str) -> list[HistoryEntry]:
        """Return the history of the image, newest entry first."""

    def pull(self, reference: str, progress: Progress) -> None:
        progress(f"pulling {reference}")
        arguments = ["pull", *self._registry_options(reference), reference]
        self._transfer(arguments, f"the image {reference} cannot be pulled", reference, progress)

    def run(self, image: str, command: Sequence[str], timeout: float = 30.0) -> CompletedProgram:
        # By name, because a client that is killed early has not reported an id.
        name = f"fnbuild-probe-{secrets.token_hex(8)}"
        arguments = ["run", "--rm", "--name", name, "--network", "none", "--pull", "never"]
        arguments += ["--entrypoint", command[0], image, *command[1:]]
        try:
            result = self._capture(*arguments, timeout=timeout)
        except BaseException as error:
            self._capture(*self._remove_command, name)
            if isinstance(error, TimeoutError):
                raise program_timeout_error(image, command, timeout) from None
            raise
        return self._check_run(result, image, command)

    def tag(self, source: str, target: str) -> None:
        self._run_checked(f"the image {source} cannot be named {target}", "tag", source, target)

    @abstractmethod
    def push(self, reference: str, progress: Progress) -> str:
        """Push the image to its registry and return its digest there."""

    def save(self, reference: str, file: Path) -> None:
        self._write(reference, file, "save", "--output", str(file), reference)

    def load(self, file: Path) -> list[str]:
        out = self._load(file, "load", "--input", str(file))
        return [match[1] for line in out.splitlines() if (match := _LOADED.match(line))]

    def remove(self, reference: str) -> bool:
        if reference.startswith("sha256:") and self._may_have_names(reference):
            return False
        result = self._query("rmi", reference)
        if result.status == 0:
            return True
        if _IMAGE_NOT_FOUND.search(result.err):
            return False
        raise engine_error(f"the image {reference} cannot be removed", result.err, engine=self.name)

    # Differences between engines.

    @abstractmethod
    def _output_parser(self, text: str, progress: Progress, *, offline: bool) -> BuildOutput:
        """Return the parser for the output of a build of this Dockerfile."""

    @abstractmethod
    def _build_command(self) -> list[str]:
        """Return the build command without the options of the request."""

    def _environment(self) -> dict[str, str]:
        return {}

    def _registry_options(self, reference: str) -> list[str]:  # noqa: ARG002  docker needs no options
        return []

    # Shared by all engines.

    def _metadata(self, raw: dict[str, Any]) -> ImageMetadata:
        """Return the metadata in the output of `image inspect`, which docker and podman share."""
        config = raw.get("Config") or {}
        return ImageMetadata(
            id=with_digest_algorithm(raw["Id"]),
            env=dict(pair.partition("=")[::2] for pair in config.get("Env") or ()),
            entrypoint=tuple(config.get("Entrypoint") or ()),
            command=tuple(config.get("Cmd") or ()),
            user=config.get("User") or "",
            workdir=config.get("WorkingDir") or "",
            shell=tuple(config.get("Shell") or ()),
            labels=dict(config.get("Labels") or {}),
            layers=tuple((raw.get("RootFS") or {}).get("Layers") or ()),
            size=int(raw.get("Size") or 0),
            architecture=raw.get("Architecture") or "",
            digests=tuple(raw.get("RepoDigests") or ()),
            names=tuple(raw.get("RepoTags") or ()),
        )

    def _may_have_names(self, identity: str) -> bool:
        """Return True if the image has a name, which would be removed with it."""
        result = self._query("image", "inspect", "--format", "{{json .RepoTags}}", identity)
        return result.out.strip() not in ("[]", "null")

    def _require_images(self, images: Sequence[str]) -> None:
        for image in images:
            if self.inspect(image) is None:
                raise BuildError(
                    f"the image {image} is not available, and pulling is disabled",
                    hint=f"pull it in advance (`{self.name} pull {image}`), or load an archive",
                )

    def _load(self, file: Path, *arguments: str) -> str:
        check_readable(file)
        result = self._capture(*arguments)
        if result.status != 0:
            raise load_error(file, result.err or result.out, engine=self.name)
        return result.out

    def _write(self, reference: str, file: Path, *arguments: str) -> None:
        check_writable(file)
        result = self._capture(*arguments)
        if result.status == 0:
            return
        what = f"the image {reference} cannot be written to {file}"
        if str(file.parent) in result.err and "no space left on device" in result.err:
            # The disk of the file is full, not the engine's.
            raise BuildError(f"{what}: no space left on device", hint="name a file on another disk")
        raise engine_error(what, result.err, engine=self.name)

    def _check_run(
        self, result: CompletedProgram, image: str, command: Sequence[str]
    ) -> CompletedProgram:
        if result.status == _ENGINE_FAILED and re.match(r"docker: |Error: |error ", result.err):
            what = f"{command[0]} cannot be run in {image}"
            raise engine_error(what, result.err, engine=self.name, reference=image)
        return result

    def _transfer(
        self, arguments: Sequence[str], what: str, reference: str, progress: Progress
    ) -> list[str]:
        """Run a pull or a push, and return its output."""
        lines: list[str] = []

        def take(line: str) -> None:
            line = clean_output(line)
            lines.append(line)
            if line.strip():
                progress(f"  {line.strip()}")

        status = client.run_streaming([self.program, *arguments], take, self._environment())
        if status != 0:
            raise engine_error(what, "\n".join(lines[-20:]), engine=self.name, reference=reference)
        return lines

    def _run_checked(self, what: str, *arguments: str) -> str:
        """Return the client's output. Raises an error that begins with `what` if it fails."""
        result = self._capture(*arguments)
        if result.status != 0:
            raise engine_error(what, result.err or result.out, engine=self.name)
        return result.out

    def _capture(self, *arguments: str, timeout: float | None = None) -> CompletedProgram:
        """Run the client and return its output. Raises `TimeoutError` after `timeout` seconds."""
        return client.run_captured([self.program, *arguments], self._environment(), timeout)

    def _query(self, *arguments: str) -> CompletedProgram:
        """Run a client command that is expected to be quick."""
        try:
            return self._capture(*arguments, timeout=_QUERY_SECONDS)
        except TimeoutError:
            raise UnavailableError(
                f"{self.name} did not answer within {_QUERY_SECONDS:g} s",
                hint=f"check what it is doing: `{self.program} info`",
            ) from None


def with_digest_algorithm(identity: str) -> str:
    """Return an image id as Docker writes it."""
    return identity if ":" in identity or not identity else f"sha256:{identity}"


def program_timeout_error(image: str, command: Sequence[str], seconds: float) -> BuildError:
    """Return the error for a program in a container that did not end."""
    return BuildError(
        f"{command[0]} in {image} did not end within {seconds:g} s, and was ended",
        hint="the machine may be too busy; otherwise the program waits for something",
    )


def check_readable(file: Path) -> None:
    """Raise `InputError` if an archive does not exist or is empty."""
    try:
        with file.open("rb") as archive:
            first_byte = archive.read(1)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    if not first_byte:
        raise not_an_image_error(file, "it is empty")


def check_writable(file: Path) -> None:
    """Raise `InputError` if no archive can be written there."""
    if file.is_dir():
        raise InputError(f"cannot write {file}: it is a folder", hint="name a file in it")
    if not file.parent.is_dir():
        raise InputError(
            f"cannot write {file}: there is no folder {file.parent}",
            hint=f"make it: `mkdir -p {shlex.quote(str(file.parent))}`",
        )


def _read_dockerfile(dockerfile: Path) -> str:
    try:
        return dockerfile.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {dockerfile}: {error.strerror}") from error


def _build_options(request: BuildRequest) -> list[str]:
    arguments = ["--file", str(request.dockerfile)]
    for tag in request.tags:
        arguments += ["--tag", tag]
    for name, value in request.args.items():
        arguments += ["--build-arg", f"{name}={value}"]
    if request.no_cache:
        arguments.append("--no-cache")
    if request.network != "default":
        arguments += ["--network", request.network]
    return arguments


class DaemonlessEngine(CommandLineEngine):
    """podman or buildah, which share the build code and run without a daemon."""

    @property
    def supports_heredocs(self) -> bool:
        numbers = re.findall(r"\d+", self._builder_version)[:2]
        return tuple(map(int, numbers)) >= _FIRST_WITH_HEREDOCS

    @property
    @abstractmethod
    def _builder_version(self) -> str:
        """Return the version of buildah, or of the one inside podman."""

    def push(self, reference: str, progress: Progress) -> str:
        what = f"the image {reference} cannot be pushed"
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            output_file = Path(folder, "digest")
            arguments = [
                "push",
                "--digestfile",
                str(output_file),
                *self._registry_options(reference),
            ]
            self._transfer([*arguments, reference], what, reference, progress)
            return output_file.read_text().strip()

    def _output_parser(self, text: str, progress: Progress, *, offline: bool) -> BuildOutput:
        return BuildahOutput(text, progress, offline=offline)

    def _build_command(self) -> list[str]:
        # The OCI format does not support SHELL and HEALTHCHECK.
        return ["build", "--layers", "--format", "docker"]

    def _registry_options(self, reference: str) -> list[str]:
        return ["--tls-verify=false"] if is_local_registry(registry_of(reference)) else []

    def _environment(self) -> dict[str, str]:
        """Return the variable for Docker's credentials if DOCKER_CONFIG names them."""
        configured = os.environ.get("DOCKER_CONFIG", "")
        file = Path(configured, "config.json")
        if not configured or os.environ.get("REGISTRY_AUTH_FILE") or not file.is_file():
            return {}
        return {"REGISTRY_AUTH_FILE": str(file)}
