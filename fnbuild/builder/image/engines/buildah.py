"""buildah: it only builds images, so programs run in its working containers."""

from __future__ import annotations

import json
import re
import secrets
import tarfile
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

from fnbuild.builder.image.engine import CompletedProgram, HistoryEntry, ImageMetadata
from fnbuild.builder.image.engines.command_line import (
    DaemonlessEngine,
    check_readable,
    program_timeout_error,
)
from fnbuild.builder.image.engines.errors import engine_error, not_an_image_error, require_program

_IMAGE_NOT_FOUND = re.compile(r"image not known|not found|no such image", re.IGNORECASE)
_NO_PROGRAM = re.compile(
    r"(?:creating container|running subprocess).*?(?:executable file [^\n]*not found|no such file)",
    re.IGNORECASE | re.DOTALL,
)
_OWN_LAST_LINE = re.compile(r"(?:^|\n)Error: while running runtime: exit status \d+\s*$")
_NOT_FOUND = 127


class Buildah(DaemonlessEngine):
    name = "buildah"

    def check(self) -> None:
        _ = self._builder_version

    def inspect(self, reference: str) -> ImageMetadata | None:
        raw = self._inspect_image(reference)
        if raw is None:
            return None
        sizes = [layer["size"] for layer in json.loads(raw["Manifest"])["layers"]]
        docker = raw["Docker"]
        return self._metadata(
            {
                "Id": raw["FromImageID"],
                "Config": docker.get("config"),
                "RootFS": {"Layers": docker["rootfs"]["diff_ids"]},
                "Size": sum(sizes),
                "Architecture": docker.get("architecture"),
            }
        )

    def images(self, label: str) -> list[ImageMetadata]:
        arguments = ("images", "--json", "--filter", f"label={label}")
        entries = json.loads(self._run_checked("the images cannot be listed", *arguments) or "[]")
        names = {str(entry["id"]): tuple(entry.get("names") or ()) for entry in entries or ()}
        images = [(self.inspect(identity), names[identity]) for identity in names]
        return [replace(metadata, names=tags) for metadata, tags in images if metadata is not None]

    def history(self, reference: str) -> list[HistoryEntry]:
        raw = self._inspect_image(reference)
        if raw is None:
            raise engine_error(
                f"the image {reference} cannot be read", "image not known", engine=self.name
            )
        sizes = [layer["size"] for layer in json.loads(raw["Manifest"])["layers"]]
        history = []
        for entry in raw["Docker"]["history"]:
            # Every entry that is not empty has a layer.
            size = sizes.pop(0) if sizes and not entry.get("empty_layer") else 0
            history.append(HistoryEntry(size, entry.get("created_by", "")))
        return history[::-1]

    def run(self, image: str, command: Sequence[str], timeout: float = 30.0) -> CompletedProgram:
        name = f"fnbuild-probe-{secrets.token_hex(8)}"
        what = f"{command[0]} cannot be run in {image}"
        try:
            self._run_checked(what, "from", "--pull-never", "--name", name, image)
            arguments = ["run", "--network", "none", name, "--", *command]
            result = self._capture(*arguments, timeout=timeout)
        except TimeoutError:
            raise program_timeout_error(image, command, timeout) from None
        finally:
            self._capture("rm", name)
        not_found = result.status != 0 and _NO_PROGRAM.search(result.err)
        return CompletedProgram(
            _NOT_FOUND if not_found else result.status,
            result.out,
            _OWN_LAST_LINE.sub("\n", result.err),
        )

    def save(self, reference: str, file: Path) -> None:
        self._write(reference, file, "push", reference, f"docker-archive:{file}:{reference}")

    def load(self, file: Path) -> list[str]:
        check_readable(file)
        names = _archive_names(file)
        self._load(file, "pull", f"docker-archive:{file}")
        return names

    @cached_property
    def _builder_version(self) -> str:
        require_program(self.program)
        result = self._query("version", "--json")
        if result.status != 0:
            raise engine_error("buildah does not answer", result.err, engine=self.name)
        return str(json.loads(result.out)["version"])

    def _inspect_image(self, reference: str) -> dict[str, Any] | None:
        result = self._query("inspect", "--type", "image", reference)
        if result.status == 0:
            about: dict[str, Any] = json.loads(result.out)
            return about
        if _IMAGE_NOT_FOUND.search(result.err):
            return None
        raise engine_error(f"the image {reference} cannot be read", result.err, engine=self.name)


def _archive_names(archive: Path) -> list[str]:
    """Return the names of the images in an archive of `docker save`."""
    try:
        with tarfile.open(archive) as tar:
            member = tar.extractfile("manifest.json")
            entries = json.load(member) if member else []
        return [name for entry in entries for name in entry.get("RepoTags") or ()]
    except (tarfile.TarError, KeyError, ValueError, OSError) as error:
        raise not_an_image_error(archive, f"it is not an image archive: {error}") from error
