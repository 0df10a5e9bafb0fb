"""The interface of container engines.

docker, podman and buildah are implemented in `engines/`. Each is driven by its own command line
with argument lists, never through a shell.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from fnbuild.errors import BuildError
from fnbuild.progress import Progress

BuildNetwork = Literal["default", "host", "none"]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """A build to run.

    `flags` are the user's own options for the engine's build command, after all others. `timeout`
    is in seconds. Without `pull` every image that the Dockerfile names must be in the engine.
    """

    context: Path
    dockerfile: Path
    tags: tuple[str, ...]
    args: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    network: BuildNetwork = "default"
    flags: tuple[str, ...] = ()
    timeout: float | None = None
    pull: bool = True


class StepError(BuildError):
    """One instruction of the Dockerfile failed; `detail` is the last output of that step.

    `step` counts the instructions of the file from 0; None if the engine does not report it.
    """

    def __init__(
        self,
        message: str,
        *,
        step: int | None,
        instruction: str,
        hint: str | None = None,
        detail: str | None = None,
    ):
        super().__init__(message, hint=hint, detail=detail)
        self.step = step
        self.instruction = instruction


@dataclass(frozen=True, slots=True)
class ImageMetadata:
    """The metadata of an image. `id` and `layers` are digests, `size` is in bytes.

    `digests` are its references by digest in the registries that it was pulled from or pushed to.
    `names` are its names with their tags.
    """

    id: str
    env: dict[str, str]
    entrypoint: tuple[str, ...]
    command: tuple[str, ...]
    user: str
    workdir: str
    shell: tuple[str, ...]
    labels: dict[str, str]
    layers: tuple[str, ...]
    size: int
    architecture: str
    digests: tuple[str, ...] = ()
    names: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """An entry of an image's history; `size` is in bytes, 0 if it changed no file."""

    size: int
    created_by: str


@dataclass(frozen=True, slots=True)
class CompletedProgram:
    """The exit status and the output of a program in a container."""

    status: int
    out: str
    err: str


class Engine(Protocol):
    """A container engine.

    Every method raises `UnavailableError` if the engine does not answer, and `BuildError` if it
    refuses.
    """

    @property
    def name(self) -> str:
        """Return docker, podman or buildah."""

    @property
    def selection_reason(self) -> str:
        """Return why engines of higher priority were not selected: `docker is not installed`.

        "" for the first engine, and for one that was requested.
        """

    @property
    def supports_heredocs(self) -> bool:
        """Return True if heredocs work in a Dockerfile without pulling another frontend."""

    def build(self, request: BuildRequest, progress: Progress) -> str:
        """Build an image and return its id.

        Raises `StepError` for a failed instruction. A progress message that begins with two blanks
        is the output of a step, which may be shown only for a moment.
        """

    def inspect(self, reference: str) -> ImageMetadata | None:
        """Return the image's metadata; None if the engine does not have it."""

    def images(self, label: str) -> list[ImageMetadata]:
        """Return the images that have a label, except intermediate ones."""

    def history(self, reference: str) -> list[HistoryEntry]:
        """Return the history of the image, newest entry first."""

    def pull(self, reference: str, progress: Progress) -> None:
        """Pull the image from its registry."""

    def run(self, image: str, command: Sequence[str], timeout: float = 30.0) -> CompletedProgram:
        """Run a program in a new container of an existing image, without network.

        `command[0]` replaces the image's ENTRYPOINT; a status of 127 means that it does not exist.
        After `timeout` seconds it is ended, with a `BuildError`. The container is removed in every
        case.
        """

    def tag(self, source: str, target: str) -> None:
        """Give the image another name."""

    def push(self, reference: str, progress: Progress) -> str:
        """Push the image to the registry in its name.

        Returns the digest in the registry, "" if the engine does not report it.
        """

    def save(self, reference: str, file: Path) -> None:
        """Write the image as an archive that any engine can load."""

    def load(self, file: Path) -> list[str]:
        """Load the images of an archive and return their names."""

    def remove(self, reference: str) -> bool:
        """Remove the name, and the image with its last name; return False if it did not exist.

        By its id an image is removed only if it has no name.
        """
