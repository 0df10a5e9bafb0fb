"""What fnbuild asks of a container engine, whichever it is.

docker, podman and buildah are siblings in `engines/`. Each is driven by its own command line with
argument lists, never through a shell.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, Protocol

from fnbuild.errors import BuildError

Progress = Callable[[str], None]
"""Called with one line of text. A line that begins with two blanks is what a step itself wrote:
it may be shown for a moment and be gone; every other line says that something begins."""

BuildNetwork = Literal["default", "host", "none"]


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """What is to be built.

    `flags` are the user's own words for the engine's build command, behind all others. `timeout` is
    in seconds. Without `pull` every image that the Dockerfile names must be there already.
    """

    context: Path
    dockerfile: Path
    tags: tuple[str, ...]
    args: Mapping[str, str] = field(default_factory=dict)
    labels: Mapping[str, str] = field(default_factory=dict)
    no_cache: bool = False
    network: BuildNetwork = "default"
    flags: tuple[str, ...] = ()
    timeout: float | None = None
    pull: bool = True


class StepError(BuildError):
    """One instruction of the Dockerfile failed; `detail` is what that step itself wrote last.

    `step` counts the instructions of the file from 0; None when the engine does not tell.
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
    """One line of an image's history; `size` in bytes, 0 when it changed no file."""

    size: int
    created_by: str


@dataclass(frozen=True, slots=True)
class CompletedProgram:
    """How a program in a container ended, and what it wrote."""

    status: int
    out: str
    err: str


class Engine(Protocol):
    """A container engine.

    Every method raises `UnavailableError` when the engine does not answer, and `BuildError` when it
    refuses.
    """

    @property
    def name(self) -> str:
        """docker, podman or buildah."""

    @property
    def why(self) -> str:
        """What those before it lack, when it was taken in their place: `docker is not installed`.

        "" for the first, and for one that was asked for.
        """

    @property
    def heredocs(self) -> bool:
        """Whether it understands heredocs in a Dockerfile without fetching another frontend."""

    def build(self, request: BuildRequest, progress: Progress) -> str:
        """Build an image and return its id; `StepError` names the instruction that failed."""

    def inspect(self, reference: str) -> ImageMetadata | None:
        """What the image says of itself; None when the engine does not have it."""

    def images(self, label: str) -> list[ImageMetadata]:
        """Return the images that have a label, except intermediate ones."""

    def history(self, reference: str) -> list[HistoryEntry]:
        """How the image came to be, newest first."""

    def pull(self, reference: str, progress: Progress) -> None:
        """Fetch the image from its registry."""

    def run(self, image: str, command: Sequence[str], timeout: float = 30.0) -> CompletedProgram:
        """Run a program in a new container of an image that is there, without network.

        `command[0]` takes the place of the image's ENTRYPOINT; a status of 127 says that it does
        not exist. After `timeout` seconds it is ended, with a `BuildError`. The container is
        removed in every case.
        """

    def tag(self, source: str, target: str) -> None:
        """Give the image one more name."""

    def push(self, reference: str, progress: Progress) -> str:
        """Send the image to the registry that its name begins with.

        Returns the digest it has there, "" when the engine does not tell.
        """

    def save(self, reference: str, file: Path) -> None:
        """Write the image as an archive that any engine can load."""

    def load(self, file: Path) -> list[str]:
        """Take the images of an archive and return their names."""

    def remove(self, reference: str) -> bool:
        """Take the name away, and the image with its last name; False when it was not there.

        By its id an image goes only when it has no name.
        """
