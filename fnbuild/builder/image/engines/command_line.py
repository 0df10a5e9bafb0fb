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
    Progress,
    StepError,
)
from fnbuild.builder.image.engines import client
from fnbuild.builder.image.engines.build_output import BuildahOutput as Dialect
from fnbuild.builder.image.engines.build_output import BuildOutput
from fnbuild.builder.image.engines.errors import (
    clean_output,
    engine_error,
    load_error,
    missing_image_message,
    not_an_image_error,
)
from fnbuild.builder.image.references import is_loopback, registry_of
from fnbuild.errors import BuildError, InputError, UnavailableError

_QUERY_SECONDS = 60.0
_IMAGE_NOT_FOUND = re.compile(r"[Nn]o such image|image not known|not found|does not exist")
_LOADED = re.compile(r"Loaded images?(?: ID)?(?:\(s\))?:\s*(.+)")
_ENGINE_FAILED = 125
"""The status of `run` when the engine, not the program in the container, failed."""


class CommandLineEngine(ABC):
    """An engine behind its command line; `program` is a name on PATH, or a path."""

    name: ClassVar[str]
    _remove_words: ClassVar[tuple[str, ...]] = ("rm", "--force")

    def __init__(self, program: str = "") -> None:
        self.program = program or self.name
        self.why = ""
        self._seen: dict[str, ImageMetadata] = {}

    @abstractmethod
    def check(self) -> None:
        """`UnavailableError` when the engine is not installed or does not answer."""

    def build(self, request: BuildRequest, progress: Progress) -> str:
        try:
            return self._built(request, progress)
        except StepError as error:
            if not self._has_vanished(error):
                raise
        progress("an image that the build went on from was removed meanwhile; building once more")
        return self._built(request, progress)

    def _has_vanished(self, error: StepError) -> bool:
        """Whether a step lacks the one before it. Docker's classic builder keeps each step as an
        image, which goes with the last image that was made from it.
        """
        named = error.instruction.startswith("FROM") or "--from=" in error.instruction
        return not named and missing_image_message(self.name) in error.message

    def _built(self, request: BuildRequest, progress: Progress) -> str:
        text = _read_dockerfile(request.dockerfile)
        if not request.pull:
            self._require(referenced_images(text, request.args))
        steps = self._steps(text, progress, offline=request.network == "none")
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            noted = Path(folder, "id")
            words = [*self._build_words(), "--iidfile", str(noted), *_build_options(request)]
            try:
                status = client.run_streaming(
                    [self.program, *words, *request.flags, str(request.context)],
                    steps.take,
                    self._environment(),
                    request.timeout,
                )
            except TimeoutError:
                raise steps.late(request.timeout or 0.0) from None
            if status != 0:
                raise steps.failure(self.name)
            return with_digest_algorithm(noted.read_text().strip())

    def inspect(self, reference: str) -> ImageMetadata | None:
        # What has an id by its content stays as it is.
        if reference in self._seen:
            return self._seen[reference]
        done = self._call("image", "inspect", reference)
        if done.status == 0:
            facts = self._facts(json.loads(done.out)[0])
            self._seen[facts.id] = facts
            return facts
        if _IMAGE_NOT_FOUND.search(done.err):
            return None
        raise engine_error(f"the image {reference} cannot be read", done.err, engine=self.name)

    def images(self, label: str) -> list[ImageMetadata]:
        ids = self._labelled(label)
        # An image that is removed meanwhile causes an error, next to the facts of all others.
        done = self._call("image", "inspect", *ids) if ids else None
        return [self._facts(raw) for raw in json.loads(done.out or "[]")] if done else []

    def _labelled(self, label: str) -> list[str]:
        arguments = ("images", "--quiet", "--no-trunc", "--filter", f"label={label}")
        return list(dict.fromkeys(self._do("the images cannot be listed", *arguments).split()))

    @abstractmethod
    def history(self, reference: str) -> list[HistoryEntry]:
        """How the image came to be, newest first."""

    def pull(self, reference: str, progress: Progress) -> None:
        progress(f"pulling {reference}")
        words = ["pull", *self._registry_words(reference), reference]
        self._transfer(words, f"the image {reference} cannot be pulled", reference, progress)

    def run(self, image: str, command: Sequence[str], timeout: float = 30.0) -> CompletedProgram:
        # A name, since a client that is killed early has told no id.
        name = f"fnbuild-probe-{secrets.token_hex(8)}"
        words = ["run", "--rm", "--name", name, "--network", "none", "--pull", "never"]
        words += ["--entrypoint", command[0], image, *command[1:]]
        try:
            done = client.run_captured([self.program, *words], self._environment(), timeout)
        except BaseException as error:
            client.run_captured([self.program, *self._remove_words, name], self._environment())
            if isinstance(error, TimeoutError):
                raise program_timeout_error(image, command, timeout) from None
            raise
        return self._ran(done, image, command)

    def tag(self, source: str, target: str) -> None:
        self._do(f"the image {source} cannot be named {target}", "tag", source, target)

    @abstractmethod
    def push(self, reference: str, progress: Progress) -> str:
        """Send the image to its registry; the digest it has there."""

    def save(self, reference: str, file: Path) -> None:
        self._write(reference, file, "save", "--output", str(file), reference)

    def load(self, file: Path) -> list[str]:
        out = self._load(file, "load", "--input", str(file))
        return [match[1] for line in out.splitlines() if (match := _LOADED.match(line))]

    def remove(self, reference: str) -> bool:
        if reference.startswith("sha256:") and self._may_have_names(reference):
            return False
        done = self._call("rmi", reference)
        if done.status == 0:
            return True
        if _IMAGE_NOT_FOUND.search(done.err):
            return False
        raise engine_error(f"the image {reference} cannot be removed", done.err, engine=self.name)

    # What differs.

    @abstractmethod
    def _steps(self, text: str, progress: Progress, *, offline: bool) -> BuildOutput:
        """What reads the output of a build of this Dockerfile."""

    @abstractmethod
    def _build_words(self) -> list[str]:
        """The command of a build, without what the request says."""

    def _environment(self) -> dict[str, str]:
        return {}

    def _registry_words(self, reference: str) -> list[str]:  # noqa: ARG002  docker needs none
        return []

    # What they share.

    def _facts(self, raw: dict[str, Any]) -> ImageMetadata:
        """The facts in the answer to `image inspect`, which docker and podman give alike."""
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
        """Whether somebody calls the image by a name, which would go with it."""
        done = self._call("image", "inspect", "--format", "{{json .RepoTags}}", identity)
        return done.out.strip() not in ("[]", "null")

    def _require(self, images: Sequence[str]) -> None:
        for image in images:
            if self.inspect(image) is None:
                raise BuildError(
                    f"the image {image} is not here, and nothing may be fetched",
                    hint=f"fetch it before (`{self.name} pull {image}`) or load it from an archive",
                )

    def _load(self, file: Path, *words: str) -> str:
        check_readable(file)
        done = client.run_captured([self.program, *words], self._environment())
        if done.status != 0:
            raise load_error(file, done.err or done.out, engine=self.name)
        return done.out

    def _write(self, reference: str, file: Path, *words: str) -> None:
        check_writable(file)
        done = client.run_captured([self.program, *words], self._environment())
        if done.status == 0:
            return
        what = f"the image {reference} cannot be written to {file}"
        if str(file.parent) in done.err and "no space left on device" in done.err:
            # The full disk is not the engine's.
            raise BuildError(f"{what}: no space left on device", hint="name a file on another disk")
        raise engine_error(what, done.err, engine=self.name)

    def _ran(self, done: CompletedProgram, image: str, command: Sequence[str]) -> CompletedProgram:
        if done.status == _ENGINE_FAILED and re.match(r"docker: |Error: |error ", done.err):
            what = f"{command[0]} cannot be run in {image}"
            raise engine_error(what, done.err, engine=self.name, reference=image)
        return done

    def _transfer(
        self, words: Sequence[str], what: str, reference: str, progress: Progress
    ) -> list[str]:
        """Run a pull or a push; its lines, when it succeeded."""
        lines: list[str] = []

        def take(line: str) -> None:
            line = clean_output(line)
            lines.append(line)
            if line.strip():
                progress(f"  {line.strip()}")

        status = client.run_streaming([self.program, *words], take, self._environment())
        if status != 0:
            raise engine_error(what, "\n".join(lines[-20:]), engine=self.name, reference=reference)
        return lines

    def _do(self, what: str, *words: str) -> str:
        """What the client writes; an error that begins with `what` when it fails."""
        done = client.run_captured([self.program, *words], self._environment())
        if done.status != 0:
            raise engine_error(what, done.err or done.out, engine=self.name)
        return done.out

    def _call(self, *words: str) -> CompletedProgram:
        """One quick question."""
        try:
            return client.run_captured([self.program, *words], self._environment(), _QUERY_SECONDS)
        except TimeoutError:
            raise UnavailableError(
                f"{self.name} did not answer within {_QUERY_SECONDS:g} s",
                hint=f"see what keeps it busy: `{self.program} info`",
            ) from None


def with_digest_algorithm(identity: str) -> str:
    """An image id as Docker writes it."""
    return identity if ":" in identity or not identity else f"sha256:{identity}"


def program_timeout_error(image: str, command: Sequence[str], seconds: float) -> BuildError:
    """The error for a program in a container that did not end."""
    return BuildError(
        f"{command[0]} in {image} did not end within {seconds:g} s, and was ended",
        hint="the machine may be too busy; otherwise the program waits for something",
    )


def check_readable(file: Path) -> None:
    """`InputError` when an archive is not there or empty, before an engine says so in its way."""
    try:
        with file.open("rb") as archive:
            begins = archive.read(1)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    if not begins:
        raise not_an_image_error(file, "it is empty")


def check_writable(file: Path) -> None:
    """`InputError` when no archive can be written there, for want of a folder or because of one."""
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
    words = ["--file", str(request.dockerfile)]
    for tag in request.tags:
        words += ["--tag", tag]
    for name, value in request.args.items():
        words += ["--build-arg", f"{name}={value}"]
    for name, value in request.labels.items():
        words += ["--label", f"{name}={value}"]
    if request.no_cache:
        words.append("--no-cache")
    if request.network != "default":
        words += ["--network", request.network]
    return words


_FIRST_WITH_HEREDOCS = (1, 33)


class DaemonlessEngine(CommandLineEngine):
    """podman or buildah."""

    @property
    def heredocs(self) -> bool:
        numbers = re.findall(r"\d+", self._builder_version)[:2]
        return tuple(map(int, numbers)) >= _FIRST_WITH_HEREDOCS

    @property
    @abstractmethod
    def _builder_version(self) -> str:
        """The version of buildah, or of the one inside podman."""

    def push(self, reference: str, progress: Progress) -> str:
        what = f"the image {reference} cannot be pushed"
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            noted = Path(folder, "digest")
            words = ["push", "--digestfile", str(noted), *self._registry_words(reference)]
            self._transfer([*words, reference], what, reference, progress)
            return noted.read_text().strip()

    def _steps(self, text: str, progress: Progress, *, offline: bool) -> BuildOutput:
        return Dialect(text, progress, offline=offline)

    def _build_words(self) -> list[str]:
        # The OCI format has no place for SHELL and HEALTHCHECK.
        return ["build", "--layers", "--format", "docker"]

    def _registry_words(self, reference: str) -> list[str]:
        return ["--tls-verify=false"] if is_loopback(registry_of(reference)) else []

    def _environment(self) -> dict[str, str]:
        """Docker's credentials where DOCKER_CONFIG says so; the one in the home they find alone."""
        configured = os.environ.get("DOCKER_CONFIG", "")
        file = Path(configured, "config.json")
        if not configured or os.environ.get("REGISTRY_AUTH_FILE") or not file.is_file():
            return {}
        return {"REGISTRY_AUTH_FILE": str(file)}
