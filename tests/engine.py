"""The container engine of this machine, and the resources that tests create in it.

Everything that a test creates has a name from `EngineResources` and is removed when the test ends.
Nothing else is touched, because others use the same engine at the same time.
"""

from __future__ import annotations

import functools
import json
import os
import random
import secrets
import shutil
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from fnbuild.builder.image.engine import BuildRequest, Engine
from fnbuild.builder.image.engines import selection
from fnbuild.errors import UnavailableError

PYTHON_IMAGE = "python:3.11"
"""The base image with Python that tests build on: bookworm with pip."""

LABEL = "fnbuild.test"
"""Label of images and build steps; its value is the token of the resources that created them."""

_PROCESS_LABEL = "fnbuild.test.process"
_process_token = secrets.token_hex(4)
_discarded_tokens: set[str] = set()
_discarded_images: list[str] = []

_REGISTRY = "127.0.0.1:5000"
_START_SECONDS = 120.0
# `swordfish` hashed with bcrypt, the only format that the registry supports.
_PASSWORD_HASH = "$2b$05$wi.Gk0804TTx4lkg1G1f7OztLoQ75Nu9X8qGSjlRfoWTjtvGfpRYG"

_CONTAINERS_CONF = Path(__file__).parent / "data" / "containers.conf"

_PROGRAMS = ("sh", "sleep", "cat", "ls", "id")


@functools.cache
def _find_engine(name: str) -> Engine | str:
    try:
        return selection.choose_engine(name)
    except UnavailableError as error:
        return f"{name} is missing: {error.message}"


def require_engine(name: str = "docker") -> Engine:
    """Return the engine of that name, or skip the test with the reason."""
    if name != "docker":
        # Without a capability that containers seldom have, podman cannot raise its limits.
        os.environ.setdefault("CONTAINERS_CONF", str(_CONTAINERS_CONF))
    engine = _find_engine(name)
    if isinstance(engine, str):
        pytest.skip(engine)
    return engine


def require_image(engine: Engine, reference: str = PYTHON_IMAGE) -> str:
    """Return the name of an image of the engine, or skip the test if the engine lacks it."""
    if engine.inspect(reference) is None:
        pytest.skip(f"{engine.name} has no image {reference}: `{engine.name} pull {reference}`")
    return reference


def require_program(name: str) -> str:
    """Return the path of a program, or skip the test."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@dataclass
class EngineResources:
    """Names of what one test creates in an engine; `remove` removes it.

    Images of Docker are removed after the last test of the process: to list them the engine reads
    all of its images, which takes longer than most builds of tests.
    """

    engine: Engine
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    images: list[str] = field(default_factory=list)
    labels_steps: bool = False

    def name(self, word: str) -> str:
        """Return a unique name for a container, a volume or a function."""
        return f"fnbuild-test-{word}-{self.token}"

    def image(self, word: str, prefix: str = "", tag: str = "1") -> str:
        """Return a unique image reference; `prefix` is a registry with its slash."""
        reference = f"{prefix}{self.name(word)}:{tag}"
        self.images.append(reference)
        return reference

    @property
    def label(self) -> str:
        """The Dockerfile instruction after FROM that labels all steps of a build."""
        self.labels_steps = True
        return f"LABEL {LABEL}={self.token} {_PROCESS_LABEL}={_process_token}"

    def build(self, folder: Path, lines: str, word: str = "image") -> str:
        """Build an image from the lines of a Dockerfile, and return its reference."""
        reference = self.image(word)
        request = BuildRequest(folder, self.dockerfile(folder, lines), (reference,))
        self.engine.build(request, lambda _: None)
        return reference

    def dockerfile(self, folder: Path, lines: str) -> Path:
        """Write a Dockerfile with these lines and the label after every FROM."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "Dockerfile"
        labelled = []
        for line in lines.splitlines():
            labelled.append(line)
            if line.startswith("FROM "):
                labelled.append(self.label)
        file.write_text("\n".join(labelled) + "\n")
        return file

    def remove(self) -> None:
        """Remove all objects with these names from the engine, Docker's images later."""
        if self.engine.name == "docker":
            name_filter = ("--filter", f"name={self.token}")
            self._remove_all("container", ("--all", *name_filter), "--volumes")
            self._remove_all("volume", name_filter)
            discard_images(self.token, *self.images)
            return
        if self.images:
            call(self.engine, "rmi", "--force", *self.images)
        if self.labels_steps:
            _remove_steps(self.engine, f"{LABEL}={self.token}")

    def _remove_all(self, kind: str, selection: tuple[str, ...], *flags: str) -> None:
        if ids := call(self.engine, kind, "ls", "--quiet", *selection).split():
            call(self.engine, kind, "rm", "--force", *flags, *ids)


def discard_images(token: str, *references: str) -> None:
    """Remove Docker's images with the token in their names, and others, after the last test."""
    _discarded_tokens.add(token)
    _discarded_images.extend(references)


def remove_discarded_images() -> None:
    """Remove the images that tests of this process have discarded."""
    if not _discarded_tokens:
        return
    engine = require_engine()
    names = call(engine, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
    names = [name for name in names if any(token in name for token in _discarded_tokens)]
    if names := [*dict.fromkeys([*_discarded_images, *names])]:
        call(engine, "rmi", "--force", *names)
    _remove_steps(engine, f"{_PROCESS_LABEL}={_process_token}")
    _discarded_tokens.clear()
    _discarded_images.clear()


def _remove_steps(engine: Engine, label: str) -> None:
    """Remove the steps of failed builds, which have no name, each after the next one."""
    for _ in range(20):
        images = ("images", "--all", "--quiet", "--filter", f"label={label}")
        steps = call(engine, *images).split()
        if not steps:
            break
        call(engine, "rmi", "--force", *dict.fromkeys(steps))


def call(engine: Engine, *arguments: str) -> str:
    """Return the output of the engine's client, whatever its exit status."""
    result = subprocess.run([engine.name, *arguments], capture_output=True, text=True, check=False)
    return result.stdout


@contextmanager
def engine_resources(engine: Engine) -> Iterator[EngineResources]:
    """Yield names in the engine, and remove everything with them at the end."""
    resources = EngineResources(engine)
    try:
        yield resources
    finally:
        resources.remove()


def small_base(resources: EngineResources, folder: Path) -> str:
    """Build a base image of a few MB with a shell and little else from programs of this machine."""
    root = folder / "root"
    programs = [require_program(name) for name in _PROGRAMS]
    for path in [*programs, *_libraries(programs)]:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    if not (root / "bin/sh").exists():
        (root / "bin").mkdir(exist_ok=True)
        shutil.copy("/bin/sh", root / "bin/sh")
    return resources.build(folder, "FROM scratch\nCOPY root /\nENV PATH=/usr/bin:/bin\n", "base")


def _libraries(programs: list[str]) -> set[str]:
    result = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True)
    words = result.stdout.split()
    return {word for word in words if word.startswith("/") and not word.endswith(":")}


def until(description: str, ready: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
    """Wait until the condition is true, or fail with its description."""
    start = time.monotonic()
    while not ready():
        waited = time.monotonic() - start
        if waited > seconds:
            pytest.fail(f"{description} did not happen within {seconds:g} s")
        time.sleep(poll_interval(waited))


def poll_interval(waited: float) -> float:
    """Return the seconds until the next check: few checks in a long wait save CPU time."""
    return min(max(0.02, waited / 20), 0.25)


def free_port() -> int:
    """Return a free loopback port outside the range of outgoing connections."""
    for port in random.sample(range(10000, 20000), 200):
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port from 10000 to 20000 is free")


@dataclass(frozen=True)
class Registry:
    """A registry on this machine. `user` and `password` are empty if it requires no login.

    `settings` is the configuration file of a registry that the test itself started.
    """

    address: str
    user: str = ""
    password: str = ""
    settings: Path | None = None

    def collect_garbage(self) -> None:
        """Remove untagged content, as the operator of a registry does from time to time."""
        assert self.settings is not None
        arguments = ["garbage-collect", "-m", str(self.settings)]
        subprocess.run(
            [require_program("docker-registry"), *arguments], check=True, capture_output=True
        )


def registry_answers(address: str) -> bool:
    """Return True if a registry answers, with or without a login."""
    try:
        with urllib.request.urlopen(f"http://{address}/v2/", timeout=10):
            return True
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False


@contextmanager
def registry(
    folder: Path, port: int, *, login: bool = False, own: bool = False, deletes: bool = True
) -> Iterator[Registry]:
    """Yield the running registry, or start one on the port; `login` and `own` always start one.

    A started registry can delete manifests unless `deletes` is false.
    """
    if not (login or own) and registry_answers(_REGISTRY):
        yield Registry(_REGISTRY)
        return
    program = require_program("docker-registry")
    address = f"127.0.0.1:{port}"
    settings: dict[str, object] = {
        "version": "0.1",
        "storage": {
            "filesystem": {"rootdirectory": str(folder / "registry")},
            "delete": {"enabled": deletes},
        },
        "http": {"addr": address},
        "log": {"level": "error", "accesslog": {"disabled": True}},
    }
    if login:
        passwords = folder / "htpasswd"
        passwords.write_text(f"ann:{_PASSWORD_HASH}\n")
        settings["auth"] = {"htpasswd": {"realm": "tests", "path": str(passwords)}}
    file = folder / "registry.yml"
    file.write_text(json.dumps(settings))
    with ExitStack() as stack:
        process = subprocess.Popen(
            [program, "serve", str(file)],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        stack.callback(process.wait)
        stack.callback(process.terminate)
        until("the registry's start", lambda: registry_answers(address))
        user, password = ("ann", "swordfish") if login else ("", "")
        yield Registry(address, user, password, file)


def has_network_namespaces() -> bool:
    """Return True if this user can run a program without network access."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    )
