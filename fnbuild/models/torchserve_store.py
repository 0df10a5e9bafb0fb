"""Publish archives to the tree of a TorchServe server: a folder or a bucket."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from fnbuild.bridges.torchserve.config_file import ConfigFile
from fnbuild.bridges.torchserve.model_store import (
    BACKUP_NAME,
    CONFIG_PATH,
    STORE_NAME,
    apply_retention,
    archive_prefix,
)
from fnbuild.errors import ConflictError, InputError
from fnbuild.models.buckets import BucketTarget
from fnbuild.models.local_files import LocalFile
from fnbuild.models.upload import FolderTarget, ModelTarget, upload_files
from fnbuild.progress import Progress
from fnbuild.runtime.storage.uris import BUCKET_SCHEMES, StorageUri


class StoreTree(ModelTarget, Protocol):
    """The tree of a server in storage: `config/`, `model-store/` and `backup/`."""

    def move(self, source: str, destination: str) -> None:
        """Move a file; raise an error if the destination exists."""


@dataclass(frozen=True, slots=True)
class TreeStore:
    """The model store of a tree."""

    tree: StoreTree

    def archives(self) -> list[str]:
        return self._names(STORE_NAME)

    def backups(self) -> list[str]:
        """Return the names of the archives in the backup."""
        return self._names(BACKUP_NAME)

    def _names(self, folder: str) -> list[str]:
        names = (path.partition(f"{folder}/")[::2] for path in self.tree.paths())
        return sorted(name for before, name in names if name and not before)

    def back_up(self, name: str) -> None:
        self.tree.move(f"{STORE_NAME}/{name}", f"{BACKUP_NAME}/{name}")

    def restore(self, name: str) -> None:
        self.tree.move(f"{BACKUP_NAME}/{name}", f"{STORE_NAME}/{name}")


def publish_to_store(
    uri: StorageUri, archive: Path, config: Path, keep: int, progress: Progress
) -> list[str]:
    """Upload an archive and its configuration to a tree, and move old archives to the backup.

    Returns the names of those. Raises `ConflictError` if the store has another archive of the same
    name, and `InputError` if the tree cannot be written.
    """
    tree = _open(uri)
    store = TreeStore(tree)
    sources = {f"{STORE_NAME}/{archive.name}": archive, CONFIG_PATH: config}
    files = [LocalFile(path, file, file.stat().st_size) for path, file in sources.items()]
    is_stored = archive.name in store.archives()
    if is_stored and tree.stored_sha256(files[0]) != files[0].sha256():
        raise ConflictError(
            f"{uri}/{files[0].path} exists already", hint="package the function again"
        )
    upload_files(files, tree, progress)
    needed = {archive.name, *(entry.archive for entry in ConfigFile(config).models())}
    prefix = archive_prefix(archive.name)
    return apply_retention(store, prefix, keep, needed) if prefix else []


def stored_archives(uri: StorageUri) -> list[str]:
    """Return the names of the archives in the model store of a tree."""
    return TreeStore(_open(uri)).archives()


def _open(uri: StorageUri) -> StoreTree:
    if uri.scheme in BUCKET_SCHEMES:
        return BucketTarget(uri)
    if uri.scheme != "file":
        raise InputError(
            f"archives cannot be published to {uri.scheme}://",
            hint="use a folder, s3 or gs; `fnbuild deploy --platform torchserve` writes claims",
        )
    return FolderTarget(Path(uri.path))
