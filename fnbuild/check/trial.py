"""A tiny image that proves that an engine builds, a registry takes and a cluster fetches.

It holds one small file, unlike any other's, so that nobody has it already, and no program.
"""

from __future__ import annotations

import contextlib
import secrets
import tempfile
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from fnbuild.builder.image.engine import BuildRequest, Engine
from fnbuild.builder.image.engines.selection import choose_engine
from fnbuild.builder.image.references import registry_of, with_registry
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.platforms import Finding

BUILD_SECONDS = 120.0
PUSH_SECONDS = 60.0

_DOCKERFILE = "FROM scratch\nCOPY made /fnbuild-doctor\n"
_FORGET_SECONDS = 3.0


class Trial:
    """The image, from its build to its end.

    `pushed` is the exact reference by which nodes get it, "" before the push, with `run_registry`
    in place of the registry if that is given; `architecture` is what the engine builds for
    (`amd64`). Without an engine there is a failure if one is `needed`.
    """

    def __init__(self, registry: str, run_registry: str = "", *, needed: bool) -> None:
        self._token = secrets.token_hex(6)
        self._registry = registry
        self._run_registry = run_registry
        self._needed = needed
        self._engine: Engine | None = None
        self._reference = ""
        self._digest = ""
        self.pushed = ""
        self.architecture = ""

    def build(self) -> Iterator[Finding]:
        """Build it with the engine that `fnbuild build` would take."""
        try:
            engine = choose_engine()
        except UsageError:
            raise
        except FnbuildError as error:
            state: Literal["failure", "warning"] = "failure" if self._needed else "warning"
            yield Finding("engine", state, error.message, error.hint or "")
            return
        reference = self._name(self._registry, "--registry")
        with tempfile.TemporaryDirectory(prefix="fnbuild-") as folder:
            file = Path(folder, "Dockerfile")
            file.write_text(_DOCKERFILE)
            Path(folder, "made").write_text(self._token)
            self._engine, self._reference = engine, reference
            request = BuildRequest(
                Path(folder), file, (reference,), network="none", timeout=BUILD_SECONDS
            )
            engine.build(request, lambda _: None)
        facts = engine.inspect(reference)
        self.architecture = facts.architecture if facts else ""
        reason = f", since {engine.why}" if engine.why else ""
        text = f"{engine.name} builds images for linux/{self.architecture or '?'}{reason}"
        yield Finding("engine", "ok", text)

    def _name(self, registry: str, key: str) -> str:
        return with_registry(registry, f"fnbuild-doctor:{self._token}", key)

    def push(self) -> Iterator[Finding]:
        """Send it to the registry; it leaves the engine, so that a pull is one."""
        engine = self._engine
        if engine is None or not self.architecture:
            yield Finding("registry", "skipped", "without an engine that builds nothing is pushed")
            return
        self._digest = engine.push(self._reference, lambda _: None)
        engine.remove(self._reference)
        name = self._name(self._run_registry or self._registry, "--run-registry")
        self.pushed = f"{name.rpartition(':')[0]}@{self._digest}" if self._digest else name
        yield Finding("registry", "ok", f"{engine.name} pushes to {self._registry}")

    def remove(self) -> Finding | None:
        """Remove it everywhere; a finding when the registry keeps it."""
        if self._engine is not None:
            with contextlib.suppress(FnbuildError):
                self._engine.remove(self._reference)
        if not self.pushed or self._forgotten():
            return None
        return Finding(
            "registry",
            "ok",
            f"the registry deletes nothing unasked: it keeps {self._reference}, of a few bytes",
        )

    def _forgotten(self) -> bool:
        """Whether the registry removed it, which most do for nobody without a login."""
        host = registry_of(self._reference)
        path = self._reference.removeprefix(f"{host}/").rpartition(":")[0]
        for scheme in ("https", "http"):
            request = urllib.request.Request(  # noqa: S310 - one of the two above
                f"{scheme}://{host}/v2/{path}/manifests/{self._digest}", method="DELETE"
            )
            with (
                contextlib.suppress(OSError),
                urllib.request.urlopen(request, timeout=_FORGET_SECONDS),  # noqa: S310
            ):
                return True
        return False
