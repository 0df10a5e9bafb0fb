"""podman: docker's words, without a daemon."""

from __future__ import annotations

import json
from functools import cached_property
from typing import Any

from fnbuild.build.image.engine import Layer
from fnbuild.build.image.engines.containers import Containers
from fnbuild.build.image.engines.reasons import explained, installed


class Podman(Containers):
    name = "podman"

    def check(self) -> None:
        _ = self._about

    def history(self, reference: str) -> list[Layer]:
        words = ("history", "--no-trunc", "--format", "json", reference)
        out = self._do(f"the image {reference} cannot be read", *words)
        return [Layer(int(line["size"]), line.get("createdBy", "")) for line in json.loads(out)]

    @property
    def _builder_version(self) -> str:
        return str(self._about["host"]["buildahVersion"])

    @cached_property
    def _about(self) -> dict[str, Any]:
        installed(self.program)
        done = self._call("info", "--format", "json")
        if done.status != 0:
            raise explained("podman does not answer", done.err, engine=self.name)
        about: dict[str, Any] = json.loads(done.out)
        return about
