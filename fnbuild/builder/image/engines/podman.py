"""podman: the command line of docker, without a daemon."""

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
    # Without a time, it waits for the container to stop.
    _remove_command = ("rm", "--force", "--time", "0")

    def check(self) -> None:
        _ = self._info

    def history(self, reference: str) -> list[HistoryEntry]:
        arguments = ("history", "--no-trunc", "--format", "json", reference)
        out = self._run_checked(f"the image {reference} cannot be read", *arguments)
        entries = json.loads(out)
        # The name of the key depends on the release.
        instructions = [entry.get("CreatedBy") or entry.get("createdBy") or "" for entry in entries]
        return [
            HistoryEntry(int(entry["size"]), instruction)
            for entry, instruction in zip(entries, instructions, strict=True)
        ]

    def _metadata(self, raw: dict[str, Any]) -> ImageMetadata:
        # podman reports SHELL only in the history.
        lines = [entry.get("created_by", "") for entry in raw.get("History") or ()]
        shells = [match[1] for line in lines if (match := _SHELL.search(line))]
        metadata = super()._metadata(raw)
        return replace(metadata, shell=tuple(json.loads(shells[-1]))) if shells else metadata

    @property
    def _builder_version(self) -> str:
        return str(self._info["host"]["buildahVersion"])

    @cached_property
    def _info(self) -> dict[str, Any]:
        require_program(self.program)
        result = self._query("info", "--format", "json")
        if result.status != 0:
            raise engine_error("podman does not answer", result.err, engine=self.name)
        info: dict[str, Any] = json.loads(result.out)
        return info
