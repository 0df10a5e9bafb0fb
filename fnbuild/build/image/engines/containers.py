"""What podman and buildah have in common: they build with the same code, without a daemon."""

from __future__ import annotations

import os
import re
import tempfile
from abc import abstractmethod
from pathlib import Path

from fnbuild.build.image.dialects import Buildah as Dialect
from fnbuild.build.image.engine import Progress
from fnbuild.build.image.engines.commands import CommandLine
from fnbuild.build.image.engines.references import is_loopback, registry_of
from fnbuild.build.image.steps import Steps

_FIRST_WITH_HEREDOCS = (1, 33)


class Containers(CommandLine):
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

    def _steps(self, text: str, progress: Progress, *, offline: bool) -> Steps:
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
