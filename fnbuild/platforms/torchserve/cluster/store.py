"""The model store in a claim: written by a pod, or through a local mount of the claim."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from fnbuild.errors import FnbuildError, InputError, NotReadyError
from fnbuild.models.local_files import LocalFile
from fnbuild.models.torchserve_store import StoreTree
from fnbuild.models.upload import FolderTarget, upload_files
from fnbuild.platforms import Progress
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.storage.claims import open_claim
from fnbuild.platforms.torchserve.cluster.manifests import base_image, store_location
from fnbuild.platforms.torchserve.cluster.records import RevisionRecord

_ROOT = 0


class WritableTree(StoreTree, Protocol):
    """The tree of a server whose files can be removed."""

    def remove(self, path: str) -> None:
        """Remove a file, which need not exist."""


@contextlib.contextmanager
def open_store(
    cluster: Cluster, record: RevisionRecord, progress: Progress
) -> Iterator[WritableTree]:
    """Provide the tree of a revision during the block."""
    location, settings = store_location(record), record.settings
    if settings.store_mount:
        mount = Path(settings.store_mount)
        if not mount.is_dir():
            raise InputError(
                f"storeMount: {mount} is no folder of this machine",
                hint=f"mount the claim {location.claim} there, or leave out `storeMount`: a pod"
                " then writes to the claim",
            )
        yield FolderTarget(mount / location.path)
        return
    image, context = base_image(settings), record.function.spec.security_context or {}
    # The user of the image may not write to a new volume.
    user = context.get("runAsUser", _ROOT)
    try:
        with open_claim(cluster, location, image, progress, write=True, user=user) as claim:
            yield claim
    except NotReadyError as error:
        error.hint = f"`baseImage` is {image}, which the nodes must be able to pull"
        raise


def write_file(tree: WritableTree, path: str, source: Path, progress: Progress) -> None:
    """Write a file in place of another one in one step; nothing remains of a failure."""
    is_new = path not in tree.paths()
    try:
        upload_files([LocalFile(path, source, source.stat().st_size)], tree, progress)
    except FnbuildError:
        if is_new:
            with contextlib.suppress(FnbuildError):
                tree.remove(path)
        raise


def write_text(tree: WritableTree, path: str, text: str) -> None:
    """Write a text in place of another one in one step."""
    with tempfile.NamedTemporaryFile("w") as file:
        file.write(text)
        file.flush()
        write_file(tree, path, Path(file.name), lambda _: None)
