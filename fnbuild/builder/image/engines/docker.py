"""docker: its client finds the engine by DOCKER_HOST, a context or the default socket.

It builds with BuildKit from engine 23 on, like Docker itself; DOCKER_BUILDKIT overrides that.
Clients before 23 include the protocol of BuildKit, and need a server of 18.09 or later. Newer
clients need the buildx plugin; without it they use the classic builder.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass
from functools import cached_property

from fnbuild.builder.image.engine import HistoryEntry
from fnbuild.builder.image.engines.build_output import BuildKitOutput, BuildOutput, ClassicOutput
from fnbuild.builder.image.engines.command_line import CommandLineEngine
from fnbuild.builder.image.engines.errors import engine_error, require_program
from fnbuild.progress import Progress

_DIGEST = re.compile(r"\bdigest: (sha256:[0-9a-f]{64})\b")
_FIRST_WITH_BUILDKIT = (18, 9)
# The BuildKit of 20.10 sometimes crashes the engine when two equal builds run at once.
_FIRST_BY_DEFAULT = (23,)
_FIRST_WITH_BUILDX = (23, 0)
_FIRST_WITH_HEREDOCS = (23, 0)
"""The first engine whose own Dockerfile frontend is 1.4 or later."""

_FALSE = ("0", "f", "F", "false", "False", "FALSE")


@dataclass(frozen=True, slots=True)
class _Versions:
    client: tuple[int, ...]
    server: tuple[int, ...]


class Docker(CommandLineEngine):
    name = "docker"

    def check(self) -> None:
        _ = self._versions

    @property
    def supports_heredocs(self) -> bool:
        return self.uses_buildkit and self._versions.server >= _FIRST_WITH_HEREDOCS

    @cached_property
    def uses_buildkit(self) -> bool:
        """Return True if builds use BuildKit."""
        requested = os.environ.get("DOCKER_BUILDKIT", "")
        if requested:
            return requested not in _FALSE
        return self._versions.server >= _FIRST_BY_DEFAULT and self.supports_buildkit

    @cached_property
    def supports_buildkit(self) -> bool:
        """Return True if client and server support BuildKit."""
        if self._versions.client < _FIRST_WITH_BUILDX:
            return self._versions.server >= _FIRST_WITH_BUILDKIT
        return self._query("buildx", "version").status == 0

    def history(self, reference: str) -> list[HistoryEntry]:
        arguments = ("history", "--no-trunc", "--human=false", "--format", "{{json .}}", reference)
        out = self._run_checked(f"the image {reference} cannot be read", *arguments)
        lines = [json.loads(line) for line in out.splitlines() if line.strip()]
        return [HistoryEntry(int(line["Size"]), line["CreatedBy"]) for line in lines]

    def push(self, reference: str, progress: Progress) -> str:
        what = f"the image {reference} cannot be pushed"
        lines = self._transfer(["push", reference], what, reference, progress)
        digests = [match[1] for line in lines if (match := _DIGEST.search(line))]
        return digests[-1] if digests else ""

    @cached_property
    def _versions(self) -> _Versions:
        require_program(self.program)
        result = self._query("version", "--format", "{{json .}}")
        raw = json.loads(result.out) if result.out.startswith("{") else {}
        if result.status != 0 or not raw.get("Server"):
            raise engine_error("docker does not answer", result.err, engine=self.name)
        client, server = raw["Client"]["Version"], raw["Server"]["Version"]
        return _Versions(_parse_version(client), _parse_version(server))

    def _output_parser(self, text: str, progress: Progress, *, offline: bool) -> BuildOutput:
        return (BuildKitOutput if self.uses_buildkit else ClassicOutput)(
            text, progress, offline=offline
        )

    def _build_command(self) -> list[str]:
        if not self.uses_buildkit:
            return ["build", "--force-rm"]
        # A builder in a container of its own keeps the result unless it has to load it.
        load = ["--load"] if self._versions.client >= _FIRST_WITH_BUILDX else []
        return ["build", "--progress", "plain", *load]

    def _environment(self) -> dict[str, str]:
        variables = {"DOCKER_CLI_HINTS": "false", "BUILDX_NO_DEFAULT_ATTESTATIONS": "1"}
        if "uses_buildkit" in self.__dict__:
            variables["DOCKER_BUILDKIT"] = "1" if self.uses_buildkit else "0"
        return variables


def _parse_version(version: str) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(r"\d+", version)[:3])
