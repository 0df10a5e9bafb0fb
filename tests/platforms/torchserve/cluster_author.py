"""A user who deploys functions to TorchServe in a cluster, and the clients of a function."""

from __future__ import annotations

import itertools
import json
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from fnbuild.builder import staging
from fnbuild.function import reader
from fnbuild.function.types import Raw
from fnbuild.platforms import NO_OPTIONS, Deployment, PlanOptions, Progress
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.storage.volumes import HostPathVolume, VolumeRequest, create_volume
from fnbuild.platforms.torchserve.cluster.manifests import STORE_MOUNT
from fnbuild.platforms.torchserve.cluster.platform import ClusterPlatform
from tests.cluster import own_namespace, require_cluster, require_local_node
from tests.platforms.torchserve.conftest import TORCH
from tests.torchserve_image import torchserve_image

CLAIM = "serving-model-pvc"
ARTICLE = Path(__file__).parent / "golden/article.yaml"
FAST_START = [
    {"name": "JAVA_TOOL_OPTIONS", "value": "-Xmx256m -XX:+UseSerialGC -XX:TieredStopAtLevel=1"},
    # Each worker imports PyTorch, which takes most of its start.
    {"name": "PYTHONPATH", "value": f"{STORE_MOUNT}/packages"},
]
"""Variables for servers of a store with `write_packages`."""
CODE = """\
def init_context(context):
    context.logger.info("the model is loaded")

def handler(context, event):
    return {"greeting": "WORD", "got": event.body}
"""


@dataclass
class ClusterAuthor:
    """A user with a namespace whose claim `serving-model-pvc` is the folder `volume`."""

    platform: ClusterPlatform
    namespace: str
    volume: Path
    work: Path
    progress: list[str] = field(default_factory=list)

    @property
    def cluster(self) -> Cluster:
        return self.platform.cluster

    def deploy(
        self,
        name: str,
        word: str = "hello",
        torchserve: dict[str, Any] | None = None,
        *,
        code: str = CODE,
        options: PlanOptions = NO_OPTIONS,
        progress: Progress | None = None,
        **spec: Any,
    ) -> Deployment:
        """Deploy a function whose reply has this word; `torchserve` are its settings."""
        settings = {
            "baseImage": torchserve_image(),
            "serviceType": "NodePort",
            **(torchserve or {}),
        }
        loaded = reader.load_function(
            self.write(name, settings, code.replace("WORD", word), **spec)
        )
        function = loaded.function.with_metadata(namespace=self.namespace)
        staged = staging.new_staging_folder()
        artifact = staging.stage(loaded, staged, self.progress.append)
        plan = self.platform.plan(function, artifact, options)
        return self.platform.apply(plan, progress or self.progress.append)

    def write(self, name: str, torchserve: dict[str, Any], code: str, **spec: Any) -> Path:
        """Write a function, and return its folder."""
        folder = self.work / name
        folder.mkdir(parents=True, exist_ok=True)
        store = torchserve.get("store", "")
        write_packages(self.volume.joinpath(*store.split("/")[3:]))
        content = {
            "handler": "main:handler",
            "runtime": "python:3.11",
            "imagePullPolicy": "Never",
            "resources": {
                "limits": {"cpu": "2"},
                # The replicas of several test processes fit on a node with two cores.
                "requests": {"cpu": "100m", "memory": "300Mi"},
            },
            "platform": {"attributes": {"torchserve": torchserve}},
            "triggers": {"http": {"kind": "http", "numWorkers": 1}},
            **spec,
            "env": [*FAST_START, *spec.get("env", ())],
        }
        (folder / "function.yaml").write_text(
            yaml.safe_dump({"metadata": {"name": name}, "spec": content})
        )
        (folder / "main.py").write_text(code)
        return folder

    def create_article_objects(self) -> Raw:
        """Create the article's objects `torchserve` without pods; return the Deployment."""
        created = []
        for manifest in yaml.safe_load_all(ARTICLE.read_text()):
            manifest["metadata"]["namespace"] = self.namespace
            if manifest["kind"] == "Deployment":
                manifest["spec"]["replicas"] = 0
            created.append(self.cluster.create(manifest))
        return created[0]

    def archives(self, folder: str = "model-store", root: str = "") -> list[str]:
        """Return the archives in the volume."""
        return sorted(path.name for path in (self.volume / root / folder).glob("*.mar"))

    def invoke(self, deployment: Deployment, body: object = None) -> Any:
        """Return the answer of the function as `fnbuild invoke` gets it."""
        headers = self.platform.request_headers(deployment)
        with self.platform.reachable_url(deployment) as url:
            return post(url, body, headers)

    def pods(self, name: str) -> list[Raw]:
        return self.cluster.list(
            kinds.POD, self.namespace, labels=f"nuclio.io/function-name={name}"
        )


def write_packages(store: Path) -> None:
    """Write a substitute for PyTorch to a model store."""
    package = store / "packages/torch"
    package.mkdir(parents=True, exist_ok=True)
    (package / "__init__.py").write_text(TORCH)


@contextmanager
def cluster_author(folder: Path) -> Iterator[ClusterAuthor]:
    """Provide a user with a namespace and a claim; skip without a cluster on this machine."""
    cluster = require_cluster()
    require_local_node(cluster)
    torchserve_image()
    volume = folder / "volume"
    volume.mkdir()
    with own_namespace(cluster) as namespace:
        backend = HostPathVolume(str(volume))
        create_volume(cluster, VolumeRequest(namespace, CLAIM, "1Gi", backend=backend))
        try:
            yield ClusterAuthor(ClusterPlatform(), namespace, volume, folder / "work")
        finally:
            cluster.delete(kinds.VOLUME, "", f"{namespace}-{CLAIM}")


def post(url: str, body: object, headers: dict[str, str] | None = None) -> Any:
    """Return the JSON answer of a request on a connection of its own."""
    request = urllib.request.Request(
        url,
        data=json.dumps(body).encode(),
        headers={"Content-Type": "application/json", "Connection": "close", **(headers or {})},
    )
    with urllib.request.urlopen(request, timeout=60) as reply:
        return json.load(reply)


@dataclass
class Clients:
    """Clients that send one request after the other, and what they got."""

    greetings: list[str] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    def distinct(self) -> list[str]:
        """Return the greetings without repetitions in a row, of one client."""
        return [key for key, _ in itertools.groupby(self.greetings)]


@contextmanager
def busy_clients(url: str, count: int = 3) -> Iterator[Clients]:
    """Send requests to a URL until the block ends."""
    clients, ended = Clients(), threading.Event()

    def send() -> None:
        while not ended.is_set():
            try:
                clients.greetings.append(post(url, "x")["greeting"])
            except (OSError, urllib.error.HTTPError) as error:
                clients.failures.append(f"{time.strftime('%X')} {error!r}")
            time.sleep(0.05)

    threads = [threading.Thread(target=send) for _ in range(count)]
    for thread in threads:
        thread.start()
    try:
        yield clients
    finally:
        ended.set()
        for thread in threads:
            thread.join()
