"""Files of a function on this machine: its records, its code, its model store and its server.

functions/torchserve@NAMESPACE/NAME/
    lock                     held by the process that changes the function
    log.jsonl                the log of the server and of the model
    code/ARCHIVE/            the code of each archive
    store/                   the model store, if the function names no other
    server/                  the server's working directory, with its tokens
"""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

from fnbuild.bridges.torchserve.model_store import CONFIG_PATH, STORE_NAME
from fnbuild.datadir import data_dir, function_dir
from fnbuild.errors import UsageError
from fnbuild.function.torchserve_settings import CLAIM_SCHEME, torchserve_settings
from fnbuild.function.types import Function
from fnbuild.models.torchserve_store import TreeStore
from fnbuild.models.upload import FolderTarget
from fnbuild.platforms import FunctionKey
from fnbuild.platforms.torchserve.server import LocalServer
from fnbuild.store import Store


class StoreFolder(NamedTuple):
    """A folder with a model store, and beside it the configuration and the backup."""

    root: Path

    @property
    def config(self) -> Path:
        return self.root / CONFIG_PATH

    @property
    def archives(self) -> Path:
        return self.root / STORE_NAME

    @property
    def tree(self) -> TreeStore:
        return TreeStore(FolderTarget(self.root))

    def overlaps(self, other: StoreFolder) -> bool:
        """Return True if a server of one of them would load files of the other."""
        return self.root == other.root or (
            self.root.is_relative_to(other.archives) or other.root.is_relative_to(self.archives)
        )


def records_path() -> Path:
    return data_dir() / "torchserve.db"


def open_records() -> Store:
    """Open the records of functions, revisions and projects of this platform."""
    return Store(records_path())


def folder_key(key: FunctionKey) -> FunctionKey:
    """Return the key of a function's folder; the process platform has its own folders."""
    return FunctionKey(f"torchserve@{key.namespace}", key.name)


def function_folder(key: FunctionKey) -> Path:
    return function_dir(*folder_key(key))


def code_root(key: FunctionKey) -> Path:
    """Return the folder with a folder for the code of each archive."""
    return function_folder(key) / "code"


def archive_name(code: Path) -> str:
    """Return the archive of a revision, whose name the folder of its code has."""
    return f"{code.name}.mar"


def server_of(key: FunctionKey) -> LocalServer:
    return LocalServer(function_folder(key) / "server")


def store_folder(function: Function) -> StoreFolder:
    """Return the model store of the function; raise `UsageError` for a claim."""
    text = torchserve_settings(function).store
    if text.startswith(CLAIM_SCHEME):
        raise UsageError(
            f"{text} is in a cluster, and this deploy is for this machine",
            hint="`--kubeconfig FILE` names the cluster; a store on this machine is a folder",
        )
    if not text:
        return StoreFolder(function_folder(FunctionKey.of(function)) / "store")
    folder = Path(text).expanduser()
    if not folder.is_absolute():
        raise UsageError(
            f"{text} is not the absolute path of a model store",
            hint="`spec.platform.attributes.torchserve.store: /FOLDER`",
        )
    return StoreFolder(folder.resolve())
