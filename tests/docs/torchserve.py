"""The environment of documents about TorchServe: a Python that has it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from fnbuild.platforms.torchserve.cluster.manifests import STORE_MOUNT
from fnbuild.platforms.torchserve.server import LocalServer
from tests.platforms.torchserve.cluster_author import cluster_author, write_packages
from tests.torchserve_image import without_torch
from tests.torchserve_server import torchserve_python


@contextmanager
def torchserve(folder: Path) -> Iterator[dict[str, str]]:
    """Yield variables for a reader's shell; end the servers that a failed document left.

    The document is about this machine: with KUBECONFIG the commands would ask a cluster.
    """
    try:
        yield {"FNBUILD_TORCHSERVE_PYTHON": str(torchserve_python()), "KUBECONFIG": ""}
    finally:
        for server in folder.glob("data/functions/torchserve@*/*/server"):
            LocalServer(server).stop()


@contextmanager
def torchserve_in_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Yield variables for a reader with a claim in a cluster, and an image with TorchServe."""
    with cluster_author(folder) as author:
        write_packages(author.volume / "greeter")
        image = without_torch(f"{STORE_MOUNT}/packages")
        yield {"NUCTL_NAMESPACE": author.namespace, "IMAGE": image}
