"""Writing and deploying functions as a person would, and looking at their containers."""

from __future__ import annotations

import http.client
import json
import textwrap
from pathlib import Path
from typing import Any

from fnbuild import deploy
from fnbuild.platforms import Deployment
from fnbuild.platforms.docker import DockerPlatform
from tests.engine import Made, call

_CONFIG = """\
metadata:
  name: {name}
spec:
  handler: main:handler
  runtime: python:3.11
  build:
    image: {image}
    noBaseImagesPull: true
{spec}"""

_CODE = """\
def handler(context, event):
    return "{word}"
"""


def config(name: str, image: str, spec: str = "") -> str:
    """The text of a function.yaml; `spec` are more of its lines."""
    return _CONFIG.format(name=name, image=image, spec=spec)


class Author:
    def __init__(self, home: Path, platform: DockerPlatform, namespace: str, made: Made):
        self.home = home
        self.platform = platform
        self.namespace = namespace
        self.made = made
        self.progress: list[str] = []

    def write(self, word: str = "hello", *, name: str = "greeter", spec: str = "") -> Path:
        """A function that answers every request with the word."""
        return self.write_code(_CODE.format(word=word), name=name, spec=spec)

    def write_code(self, code: str, *, name: str = "greeter", spec: str = "") -> Path:
        folder = self.home / "functions" / name
        folder.mkdir(parents=True, exist_ok=True)
        lines = textwrap.indent(textwrap.dedent(spec).strip(), "  ")
        image = self.made.name(name.lower().replace("_", "-").replace(".", "-"))
        (folder / "function.yaml").write_text(config(name, image, lines))
        (folder / "main.py").write_text(textwrap.dedent(code))
        return folder

    def deploy(self, folder: Path, **options: Any) -> Deployment:
        request = deploy.DeployRequest(
            path=folder, platform="local", namespace=self.namespace, options=options
        )
        return deploy.deploy(request, self.progress.append)

    def shown(self, name: str = "greeter") -> Deployment:
        return self.platform.deployment(self.namespace, name)

    def container(self, name: str = "greeter") -> str:
        return f"nuclio-{self.namespace}-{name}"

    def inspected(self, name: str = "greeter") -> Any:
        """What the engine's own client says about the function's container."""
        return json.loads(self.docker("inspect", self.container(name)))[0]

    def docker(self, *words: str) -> str:
        return call(self.made.engine, *words)


def ask(port: int, path: str = "/", timeout: float = 20.0, host: str = "127.0.0.1") -> str:
    """The body of a 200 answer."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout)
    try:
        connection.request("GET", path)
        reply = connection.getresponse()
        text = reply.read().decode()
        assert reply.status == 200, (reply.status, text)
        return text
    finally:
        connection.close()
