"""The program as users run it, with a separate namespace on the available engine."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from fnbuild.builder import sdk
from fnbuild.builder.image.engine import Engine
from tests.engine import EngineResources, call, engine_resources, require_engine, require_image

PROGRAM = Path(sys.executable).with_name("fnbuild")
_TIMEOUT_SECONDS = 300.0


@dataclass
class User:
    """A user at a shell. The namespace is empty at the beginning and at the end."""

    resources: EngineResources
    environment: dict[str, str]

    @property
    def namespace(self) -> str:
        return self.resources.name("ns")

    def run(
        self,
        *arguments: str | Path,
        stdin: bytes = b"",
        at: Path | None = None,
        timeout: float = _TIMEOUT_SECONDS,
    ) -> subprocess.CompletedProcess[str]:
        """Run a command line in the folder `at` with the input `stdin`, and return the result."""
        result = subprocess.run(
            [str(argument) for argument in arguments],
            input=stdin,
            cwd=at,
            env=self.environment,
            capture_output=True,
            timeout=timeout,
            check=False,
        )
        return subprocess.CompletedProcess(
            result.args, result.returncode, result.stdout.decode(), result.stderr.decode()
        )

    def fnbuild(self, *arguments: str | Path, stdin: bytes = b"") -> str:
        """Return the program's output; fail the test if it fails."""
        result = self.run(PROGRAM, *arguments, stdin=stdin)
        assert result.returncode == 0, result.stderr
        return result.stdout

    def deploy(self, *arguments: str | Path) -> str:
        """Deploy a function to a container, and return its URL."""
        return self.fnbuild("deploy", "--platform", "local", "-o", "url", *arguments).strip()

    def describe(self, name: str) -> Any:
        """Return the program's description of a function."""
        return json.loads(
            self.fnbuild("get", "function", name, "--platform", "local", "-o", "json")
        )

    def inspect_container(self, name: str) -> Any:
        """Return the engine's description of a function's container."""
        return json.loads(call(self.resources.engine, "inspect", self.container(name)))[0]

    def container(self, name: str) -> str:
        return f"nuclio-{self.namespace}-{name}"


@pytest.fixture(scope="session")
def engine() -> Engine:
    """Return the available engine, with an image that has Python."""
    engine = require_engine()
    require_image(engine)
    return engine


@pytest.fixture(scope="session")
def data(engine: Engine, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data directory with every release of nuclio_sdk; containers need nothing else from it."""
    folder = tmp_path_factory.mktemp("data")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("FNBUILD_DATA_DIR", str(folder))
        sdk.ensure_all_sdks()
    return folder


@pytest.fixture
def user(engine: Engine, data: Path) -> Iterator[User]:
    with new_user(engine, data) as user:
        yield user


@pytest.fixture(scope="module")
def module_user(engine: Engine, data: Path) -> Iterator[User]:
    """A user for all tests of a module."""
    with new_user(engine, data) as user:
        yield user


@contextmanager
def new_user(engine: Engine, data: Path) -> Iterator[User]:
    with engine_resources(engine) as resources:
        environment = {name: value for name, value in os.environ.items() if not is_ours(name)}
        user = User(resources, environment)
        user.environment |= {
            "FNBUILD_DATA_DIR": str(data),
            "NUCTL_NAMESPACE": user.namespace,
            "PATH": f"{PROGRAM.parent}{os.pathsep}{environment['PATH']}",
        }
        yield user


def is_ours(name: str) -> bool:
    """Return True if an environment variable affects the program."""
    return name.startswith(("FNBUILD_", "NUCTL_", "NUCLIO_", "PYTEST_"))
