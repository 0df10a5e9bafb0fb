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
"""Its value says which test made an image, and every step of its build."""

_REGISTRY = "127.0.0.1:5000"
_START_SECONDS = 120.0
# `swordfish` by bcrypt, which is all that the registry reads.
_PASSWORD_HASH = "$2b$05$wi.Gk0804TTx4lkg1G1f7OztLoQ75Nu9X8qGSjlRfoWTjtvGfpRYG"

_CONTAINERS_CONF = Path(__file__).parent / "data" / "containers.conf"

_PROGRAMS = ("sh", "sleep", "cat", "ls", "id")


@functools.cache
def _answering(name: str) -> Engine | str:
    try:
        return selection.choose_engine(name)
    except UnavailableError as error:
        return f"{name} is missing: {error.message}"


def require_engine(name: str = "docker") -> Engine:
    """The engine of that name, or the test is skipped with what is missing."""
    if name != "docker":
        # Without a right that containers seldom have, podman cannot raise limits as it likes to.
        os.environ.setdefault("CONTAINERS_CONF", str(_CONTAINERS_CONF))
    found = _answering(name)
    if isinstance(found, str):
        pytest.skip(found)
    return found


def require_image(engine: Engine, reference: str = PYTHON_IMAGE) -> str:
    """The name of an image that the engine has, or the test is skipped."""
    if engine.inspect(reference) is None:
        pytest.skip(f"{engine.name} has no image {reference}: `{engine.name} pull {reference}`")
    return reference


def require_program(name: str) -> str:
    """The path of a program, or the test is skipped."""
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"{name} is not installed")
    return path


@dataclass
class EngineResources:
    """Names of what one test creates in an engine; `remove` removes it."""

    engine: Engine
    token: str = field(default_factory=lambda: secrets.token_hex(4))
    images: list[str] = field(default_factory=list)

    def name(self, word: str) -> str:
        """A name that nobody else has: of a container, a volume, a function."""
        return f"fnbuild-test-{word}-{self.token}"

    def image(self, word: str, prefix: str = "", tag: str = "1") -> str:
        """A reference that nobody else has; `prefix` is a registry with its slash."""
        reference = f"{prefix}{self.name(word)}:{tag}"
        self.images.append(reference)
        return reference

    @property
    def label(self) -> str:
        """The line of a Dockerfile behind FROM by which all its steps are found again."""
        return f"LABEL {LABEL}={self.token}"

    def build(self, folder: Path, lines: str, word: str = "image") -> str:
        """Build an image of a Dockerfile's lines with the folder as context; its reference."""
        reference = self.image(word)
        request = BuildRequest(folder, self.dockerfile(folder, lines), (reference,))
        self.engine.build(request, lambda _: None)
        return reference

    def dockerfile(self, folder: Path, lines: str) -> Path:
        """A Dockerfile of these lines, with the label behind every FROM."""
        folder.mkdir(parents=True, exist_ok=True)
        file = folder / "Dockerfile"
        marked = []
        for line in lines.splitlines():
            marked.append(line)
            if line.startswith("FROM "):
                marked.append(self.label)
        file.write_text("\n".join(marked) + "\n")
        return file

    def remove(self) -> None:
        kinds = {"container": ("--all",), "volume": ()} if self.engine.name == "docker" else {}
        for kind, flags in kinds.items():
            named = ("--filter", f"name={self.token}")
            for one in call(self.engine, kind, "ls", "--quiet", *flags, *named).split():
                call(self.engine, kind, "rm", "--force", one)
        for reference in dict.fromkeys([*self.images, *self._named()]):
            call(self.engine, "rmi", "--force", reference)
        # The steps of a build that failed have no name, and go from the last to the first.
        for _ in range(20):
            ours = f"label={LABEL}={self.token}"
            left = call(self.engine, "images", "--all", "--quiet", "--filter", ours).split()
            if not left:
                break
            call(self.engine, "rmi", "--force", *dict.fromkeys(left))

    def _named(self) -> list[str]:
        """The references of images that have our token in their names."""
        if self.engine.name != "docker":
            return []
        names = call(self.engine, "images", "--format", "{{.Repository}}:{{.Tag}}").split()
        return [name for name in names if self.token in name]


def call(engine: Engine, *words: str) -> str:
    """What the engine's own client writes, whatever its status."""
    done = subprocess.run([engine.name, *words], capture_output=True, text=True, check=False)
    return done.stdout


@contextmanager
def engine_resources(engine: Engine) -> Iterator[EngineResources]:
    """Yield names in the engine, and remove everything with them at the end."""
    resources = EngineResources(engine)
    try:
        yield resources
    finally:
        resources.remove()


def small_base(resources: EngineResources, folder: Path) -> str:
    """A base image of a few MB with a shell and little else, made from this machine's programs."""
    root = folder / "root"
    wanted = [require_program(name) for name in _PROGRAMS]
    for path in [*wanted, *_libraries(wanted)]:
        target = root / path.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, target)
    if not (root / "bin/sh").exists():
        (root / "bin").mkdir(exist_ok=True)
        shutil.copy("/bin/sh", root / "bin/sh")
    return resources.build(folder, "FROM scratch\nCOPY root /\nENV PATH=/usr/bin:/bin\n", "base")


def _libraries(programs: list[str]) -> set[str]:
    listed = subprocess.run(["ldd", *programs], capture_output=True, text=True, check=True)
    words = listed.stdout.split()
    return {word for word in words if word.startswith("/") and not word.endswith(":")}


def until(what: str, ready: Callable[[], bool], seconds: float = _START_SECONDS) -> None:
    """Wait for a condition, or fail with its name."""
    deadline = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > deadline:
            pytest.fail(f"{what} did not happen within {seconds:g} s")
        time.sleep(0.02)


def free_port() -> int:
    """A port of the loopback that nobody listens on, and that no outgoing connection is given."""
    for port in random.sample(range(10000, 20000), 200):
        with socket.socket() as free, suppress(OSError):
            free.bind(("127.0.0.1", port))
            return port
    pytest.fail("no port from 10000 to 20000 is free")


@dataclass(frozen=True)
class Registry:
    """A registry on this machine. `user` and `password` are empty when it asks for none.

    `settings` is the file of one that the test has started itself.
    """

    address: str
    user: str = ""
    password: str = ""
    settings: Path | None = None

    def collect_garbage(self) -> None:
        """Remove what no tag means, as the operator of a registry does now and then."""
        assert self.settings is not None
        words = ["garbage-collect", "-m", str(self.settings)]
        subprocess.run(
            [require_program("docker-registry"), *words], check=True, capture_output=True
        )


def registry_answers(address: str) -> bool:
    """Whether a registry is there, with a login or without."""
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
    """The registry that is there, or one of our own on that port; with `login` or `own` always our
    own, which removes manifests unless `deletes` is false.
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
    """Whether this user can cut a program off the network."""
    if os.getuid() != 0 or shutil.which("unshare") is None:
        return False
    return (
        subprocess.run(["unshare", "-n", "true"], capture_output=True, check=False).returncode == 0
    )
