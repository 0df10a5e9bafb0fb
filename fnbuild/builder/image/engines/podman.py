"""podman: docker's words, without a daemon."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from functools import cached_property
from typing import Any

from fnbuild.builder.image.engine import HistoryEntry, ImageMetadata
from fnbuild.builder.image.engines.command_line import DaemonlessEngine
from fnbuild.builder.image.engines.errors import engine_error, require_program

_SHELL = re.compile(r"#\(nop\) SHELL (\[.*\])")


class Podman(DaemonlessEngine):
    name = "podman"
    # It asks a container to stop first, and waits for that.
    _remove_words = ("rm", "--force", "--time", "0")

    def check(self) -> None:
        _ = self._about

    def history(self, reference: str) -> list[HistoryEntry]:
        words = ("history", "--no-trunc", "--format", "json", reference)
        out = self._do(f"the image {reference} cannot be read", *words)
        lines = json.loads(out)
        # Releases differ in how they write the name.
        made_by = [line.get("CreatedBy") or line.get("createdBy") or "" for line in lines]
        return [
            HistoryEntry(int(line["size"]), by) for line, by in zip(lines, made_by, strict=True)
        ]

    def _facts(self, raw: dict[str, Any]) -> ImageMetadata:
        # It keeps SHELL, and tells of it nowhere but in the history.
        lines = [entry.get("created_by", "") for entry in raw.get("History") or ()]
        shells = [match[1] for line in lines if (match := _SHELL.search(line))]
        found = super()._facts(raw)
        return replace(found, shell=tuple(json.loads(shells[-1]))) if shells else found

    @property
    def _builder_version(self) -> str:
        return str(self._about["host"]["buildahVersion"])

    @cached_property
    def _about(self) -> dict[str, Any]:
        require_program(self.program)
        done = self._call("info", "--format", "json")
        if done.status != 0:
            raise engine_error("podman does not answer", done.err, engine=self.name)
        about: dict[str, Any] = json.loads(done.out)
        return about
