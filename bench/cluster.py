"""A function on the cluster of the kubeconfig, and the same function deployed by hand."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import yaml

NAME = "fnbuild-bench"
OBJECT = f"nuclio-{NAME}"

_REGISTRY = os.environ.get("REGISTRY", "127.0.0.1:5000")
_TIMEOUT = 120.0
_POLL_INTERVAL = 0.005
_REPLY_TIMEOUT = 0.5
SLOW_POLL_INTERVAL = 0.3
"""Between two looks by a program that would keep a core busy, in seconds."""

_CONFIG = f"""
metadata: {{name: {NAME}}}
spec:
  handler: main:handler
  runtime: "python:3.11"
  build: {{image: {NAME}, baseImage: "python:3.11", noBaseImagesPull: true}}
"""
_HANDLER = "def handler(context, event):\n    return 'here'\n"


class ClusterSetup:
    """One function in a namespace, and the same by hand in another; a registry has its image."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder / "function"
        self._folder.mkdir()
        (self._folder / "function.yaml").write_text(_CONFIG)
        (self._folder / "main.py").write_text(_HANDLER)
        self._by_hand = folder / "manifests.yaml"
        self._env = {**os.environ, "FNBUILD_DATA_DIR": str(folder / "data")}
        token = os.urandom(3).hex()
        self.own, self.hand = f"fnbuild-bench-{token}", f"fnbuild-bench-{token}-hand"
        self._image = ""

    @contextlib.contextmanager
    def opened(self) -> Iterator[ClusterSetup]:
        """Create namespaces, image and manifests; the namespaces are deleted after the block."""
        try:
            for namespace in (self.own, self.hand):
                kubectl("create", "namespace", namespace)
            source = ("--path", str(self._folder), "--registry", _REGISTRY)
            self.fnbuild("deploy", *source)
            text = self.fnbuild("deploy", *source, "--dry-run", "-o", "yaml")
            self.manifests = list(yaml.safe_load_all(text))
            for manifest in self.manifests:
                manifest["metadata"].pop("namespace", None)
            deployment = next(item for item in self.manifests if item["kind"] == "Deployment")
            self._image = deployment["spec"]["template"]["spec"]["containers"][0]["image"]
            self._by_hand.write_text(yaml.safe_dump_all(self.manifests))
            self.remove()
            yield self
        finally:
            for namespace in (self.own, self.hand):
                kubectl("delete", "namespace", namespace, "--wait=false", "--ignore-not-found")

    def fnbuild(self, *arguments: str) -> str:
        """Run a fnbuild command; return its output."""
        options = (*arguments, "--platform", "kube", "-n", self.own)
        command_line = [sys.executable, "-m", "fnbuild", *options]
        return run_command(command_line, env=self._env)

    def deploy(self, *arguments: str, name: str = NAME) -> str:
        """Deploy the image and wait for the first reply; return the URL."""
        image = (
            "--run-image",
            self._image,
            "--runtime",
            "python:3.11",
            "--handler",
            "main:handler",
        )
        url = self.fnbuild("deploy", name, *image, "-o", "url", *arguments).strip()
        wait_until("an answer", lambda: is_answering(url))
        return url

    def apply(self) -> None:
        """Deploy the same manifests by hand."""
        kubectl("apply", "-n", self.hand, "-f", str(self._by_hand))
        kubectl("rollout", "status", "-n", self.hand, f"deployment/{OBJECT}")
        path = "jsonpath={.spec.ports[0].nodePort}"
        port = kubectl("get", "service", "-n", self.hand, OBJECT, "-o", path)
        path = "jsonpath={.items[0].status.addresses[0].address}"
        url = f"http://{kubectl('get', 'nodes', '-o', path)}:{port}"
        wait_until("an answer", lambda: is_answering(url))

    def remove(self) -> None:
        """Return True if the function has been deleted from both namespaces."""
        self.fnbuild("delete", "function", NAME)
        self.clear()

    def clear(self) -> None:
        """Return True if no pod runs in either namespace."""
        for namespace in (self.own, self.hand):
            selector = ("-l", "nuclio.io/function-name", "-n", namespace, "--wait=false")
            kubectl("delete", "deployment,service,configmap", *selector)
        wait_until(
            "the end", lambda: not pods(self.own) and not pods(self.hand), SLOW_POLL_INTERVAL
        )

    def fill(self, first: int, end: int) -> None:
        """Add functions without pods, with names by their numbers."""
        items = []
        for manifest in self.manifests:
            text = json.dumps(manifest)
            for number in range(first, end):
                item = json.loads(text.replace(NAME, f"many-{number}"))
                if item["kind"] == "Deployment":
                    item["spec"]["replicas"] = 0
                else:
                    item["spec"]["type"] = "ClusterIP"
                items.append(item)
        item_list = json.dumps({"apiVersion": "v1", "kind": "List", "items": items})
        run_command(["kubectl", "create", "-n", self.own, "-f", "-"], stdin=item_list)


def kubectl(*arguments: str) -> str:
    """Run kubectl; raise RuntimeError with its errors if it fails."""
    return run_command(["kubectl", *arguments])


def run_command(command: list[str], env: dict[str, str] | None = None, stdin: str = "") -> str:
    """Return the output of a program; raise RuntimeError with its errors if it fails."""
    done = subprocess.run(
        command, env=env, input=stdin, capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise RuntimeError(f"{' '.join(command)}: {done.stderr}")
    return done.stdout


def pods(namespace: str) -> list[str]:
    """Return the names of the pods, including terminating ones."""
    return kubectl("get", "pods", "-n", namespace, "-o", "name").split()


def is_answering(url: str) -> bool:
    """Return True if the function replies in time.

    A connection that is opened while kube-proxy changes its rules may end at kube-proxy's own
    socket, which holds the port and never answers.
    """
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(str(parts.hostname), parts.port, timeout=_REPLY_TIMEOUT)
    try:
        connection.request("POST", "/", b"")
        return connection.getresponse().status == 200
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()


def wait_until(condition: str, ready: Callable[[], bool], pause: float = _POLL_INTERVAL) -> None:
    """Wait for a condition, polled every `pause` seconds; raise RuntimeError with its name."""
    deadline = time.monotonic() + _TIMEOUT
    while not ready():
        if time.monotonic() > deadline:
            raise RuntimeError(f"{condition} did not come within {_TIMEOUT:g} s")
        time.sleep(pause)
