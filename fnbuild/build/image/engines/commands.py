"""What the command lines of docker, podman and buildah have in common, said once.

The words are docker's; podman took them over, and buildah has some of them. What differs is a
method of its own in each sibling.
"""

from __future__ import annotations

import json
import re
import secrets
import shlex
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

from fnbuild.build.image.engine import BuildRequest, ImageFacts, Layer, Progress, Ran, StepError
from fnbuild.build.image.engines import client
from fnbuild.build.image.engines.reasons import absent, clean, explained, no_image, not_loaded
from fnbuild.build.image.instructions import images_of
from fnbuild.build.image.steps import Steps
from fnbuild.errors import BuildError, InputError, UnavailableError

_ANSWER_SECONDS = 60.0
_MISSING = re.compile(r"[Nn]o such image|image not known|not found|does not exist")
_LOADED = re.compile(r"Loaded images?(?: ID)?(?:\(s\))?:\s*(.+)")
_REFUSED = 125
"""The status of `run` when the engine, not the program in the container, failed."""


class CommandLine(ABC):
    """An engine behind its command line; `program` is a name on PATH, or a path."""

    name: ClassVar[str]
    _remove_words: ClassVar[tuple[str, ...]] = ("rm", "--force")

    def __init__(self, program: str = "") -> None:
        self.program = program or self.name
        self.why = ""
        self._seen: dict[str, ImageFacts] = {}

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
        return not named and absent(self.name) in error.message

    def _built(self, request: BuildRequest, progress: Progress) -> str:
        text = _read(request.dockerfile)
        if not request.pull:
            self._require(images_of(text, request.args))
        steps = self._steps(text, progress, offline=request.network == "none")
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            noted = Path(folder, "id")
            words = [*self._build_words(), "--iidfile", str(noted), *_options(request)]
            try:
                status = client.stream(
                    [self.program, *words, *request.flags, str(request.context)],
                    steps.take,
                    self._environment(),
                    request.timeout,
                )
            except TimeoutError:
                raise steps.late(request.timeout or 0.0) from None
            if status != 0:
                raise steps.failure(self.name)
            return with_algorithm(noted.read_text().strip())

    def inspect(self, reference: str) -> ImageFacts | None:
        # What has an id by its content stays as it is.
        if reference in self._seen:
            return self._seen[reference]
        done = self._call("image", "inspect", reference)
        if done.status == 0:
            facts = self._facts(json.loads(done.out)[0])
            self._seen[facts.id] = facts
            return facts
        if _MISSING.search(done.err):
            return None
        raise explained(f"the image {reference} cannot be read", done.err, engine=self.name)

    def images(self, label: str) -> list[ImageFacts]:
        ids = self._labelled(label)
        # An image that is removed meanwhile causes an error, next to the facts of all others.
        done = self._call("image", "inspect", *ids) if ids else None
        return [self._facts(raw) for raw in json.loads(done.out or "[]")] if done else []

    def _labelled(self, label: str) -> list[str]:
        arguments = ("images", "--quiet", "--no-trunc", "--filter", f"label={label}")
        return list(dict.fromkeys(self._do("the images cannot be listed", *arguments).split()))

    @abstractmethod
    def history(self, reference: str) -> list[Layer]:
        """How the image came to be, newest first."""

    def pull(self, reference: str, progress: Progress) -> None:
        progress(f"pulling {reference}")
        words = ["pull", *self._registry_words(reference), reference]
        self._transfer(words, f"the image {reference} cannot be pulled", reference, progress)

    def run(self, image: str, command: Sequence[str], timeout: float = 30.0) -> Ran:
        # A name, since a client that is killed early has told no id.
        name = f"fnbuild-probe-{secrets.token_hex(8)}"
        words = ["run", "--rm", "--name", name, "--network", "none", "--pull", "never"]
        words += ["--entrypoint", command[0], image, *command[1:]]
        try:
            done = client.capture([self.program, *words], self._environment(), timeout)
        except BaseException as error:
            client.capture([self.program, *self._remove_words, name], self._environment())
            if isinstance(error, TimeoutError):
                raise too_long(image, command, timeout) from None
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
        if _MISSING.search(done.err):
            return False
        raise explained(f"the image {reference} cannot be removed", done.err, engine=self.name)

    # What differs.

    @abstractmethod
    def _steps(self, text: str, progress: Progress, *, offline: bool) -> Steps:
        """What reads the output of a build of this Dockerfile."""

    @abstractmethod
    def _build_words(self) -> list[str]:
        """The command of a build, without what the request says."""

    def _environment(self) -> dict[str, str]:
        return {}

    def _registry_words(self, reference: str) -> list[str]:  # noqa: ARG002  docker needs none
        return []

    # What they share.

    def _facts(self, raw: dict[str, Any]) -> ImageFacts:
        """The facts in the answer to `image inspect`, which docker and podman give alike."""
        config = raw.get("Config") or {}
        return ImageFacts(
            id=with_algorithm(raw["Id"]),
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
        readable(file)
        done = client.capture([self.program, *words], self._environment())
        if done.status != 0:
            raise not_loaded(file, done.err or done.out, engine=self.name)
        return done.out

    def _write(self, reference: str, file: Path, *words: str) -> None:
        writable(file)
        done = client.capture([self.program, *words], self._environment())
        if done.status == 0:
            return
        what = f"the image {reference} cannot be written to {file}"
        if str(file.parent) in done.err and "no space left on device" in done.err:
            # The full disk is not the engine's.
            raise BuildError(f"{what}: no space left on device", hint="name a file on another disk")
        raise explained(what, done.err, engine=self.name)

    def _ran(self, done: Ran, image: str, command: Sequence[str]) -> Ran:
        if done.status == _REFUSED and re.match(r"docker: |Error: |error ", done.err):
            what = f"{command[0]} cannot be run in {image}"
            raise explained(what, done.err, engine=self.name, reference=image)
        return done

    def _transfer(
        self, words: Sequence[str], what: str, reference: str, progress: Progress
    ) -> list[str]:
        """Run a pull or a push; its lines, when it succeeded."""
        lines: list[str] = []

        def take(line: str) -> None:
            line = clean(line)
            lines.append(line)
            if line.strip():
                progress(f"  {line.strip()}")

        status = client.stream([self.program, *words], take, self._environment())
        if status != 0:
            raise explained(what, "\n".join(lines[-20:]), engine=self.name, reference=reference)
        return lines

    def _do(self, what: str, *words: str) -> str:
        """What the client writes; an error that begins with `what` when it fails."""
        done = client.capture([self.program, *words], self._environment())
        if done.status != 0:
            raise explained(what, done.err or done.out, engine=self.name)
        return done.out

    def _call(self, *words: str) -> Ran:
        """One quick question."""
        try:
            return client.capture([self.program, *words], self._environment(), _ANSWER_SECONDS)
        except TimeoutError:
            raise UnavailableError(
                f"{self.name} did not answer within {_ANSWER_SECONDS:g} s",
                hint=f"see what keeps it busy: `{self.program} info`",
            ) from None


def with_algorithm(identity: str) -> str:
    """An image id as Docker writes it."""
    return identity if ":" in identity or not identity else f"sha256:{identity}"


def too_long(image: str, command: Sequence[str], seconds: float) -> BuildError:
    """The error for a program in a container that did not end."""
    return BuildError(
        f"{command[0]} in {image} did not end within {seconds:g} s, and was ended",
        hint="the machine may be too busy; otherwise the program waits for something",
    )


def readable(file: Path) -> None:
    """`InputError` when an archive is not there or empty, before an engine says so in its way."""
    try:
        with file.open("rb") as archive:
            begins = archive.read(1)
    except OSError as error:
        raise InputError(f"cannot read {file}: {error.strerror}") from error
    if not begins:
        raise no_image(file, "it is empty")


def writable(file: Path) -> None:
    """`InputError` when no archive can be written there, for want of a folder or because of one."""
    if file.is_dir():
        raise InputError(f"cannot write {file}: it is a folder", hint="name a file in it")
    if not file.parent.is_dir():
        raise InputError(
            f"cannot write {file}: there is no folder {file.parent}",
            hint=f"make it: `mkdir -p {shlex.quote(str(file.parent))}`",
        )


def _read(dockerfile: Path) -> str:
    try:
        return dockerfile.read_text(encoding="utf-8", errors="replace")
    except OSError as error:
        raise InputError(f"cannot read {dockerfile}: {error.strerror}") from error


def _options(request: BuildRequest) -> list[str]:
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
