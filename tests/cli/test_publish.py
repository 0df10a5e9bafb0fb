"""Mistakes in the deploy step of a pipeline, which leave the model store as it was."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from fnbuild.platforms.kubeclient import kinds
from tests.cli.conftest import Outcome
from tests.cluster import own_namespace, require_cluster

Fnbuild = Callable[..., Outcome]
# A mounted volume of every Linux, and a folder outside of all volumes.
MOUNTED, UNMOUNTED = "/dev/shm/fnbuild-test", "/fnbuild-test"


@pytest.mark.parametrize(
    ("store", "config", "handler", "message"),
    [
        (MOUNTED, f"{MOUNTED}/other", "handler.py", "are not of one model store"),
        (UNMOUNTED, UNMOUNTED, "handler.py", f"no volume is mounted at {UNMOUNTED}"),
        (MOUNTED, MOUNTED, "missing.py", "the handler 'missing.py' does not exist"),
        (MOUNTED, MOUNTED, "missing.py:run", "there is no file missing.py"),
    ],
)
def test_mistakes(store: str, config: str, handler: str, message: str, fnbuild: Fnbuild) -> None:
    folders = ("--export-path", f"{store}/model-store", "--config-path", f"{config}/config")
    result = fnbuild("torchserve", "publish", "digits", "--handler", handler, *folders)
    assert result.status != 0
    assert message in result.err


@contextmanager
def small_volume(folder: Path) -> Iterator[None]:
    """Mount a file system of 64 KiB."""
    folder.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", "size=64k", "fnbuild-test", str(folder)]
    if os.geteuid() != 0 or subprocess.run(command, capture_output=True, check=False).returncode:
        pytest.skip("mounting a small file system needs root")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", str(folder)], check=True)


@pytest.mark.system
@pytest.mark.usefixtures("empty")
def test_a_store_that_cannot_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    fnbuild: Fnbuild,
) -> None:
    cluster = require_cluster()
    monkeypatch.chdir(tmp_path)
    volume = tmp_path / "deploy-model"
    Path("handler.py").write_text("def handle(data, context):\n    return data\n")
    Path("model.pt").write_bytes(os.urandom(100_000))
    with own_namespace(cluster) as namespace, small_volume(volume):
        claim = ("serving-model-pvc", "-n", namespace, "--size", "1Mi", "--host-path", volume)
        assert fnbuild("create", "volume", *claim).status == 0
        folders = ("--export-path", volume / "model-store", "--config-path", volume / "config")
        files = ("--handler", "handler.py", "--serialized-file")
        command = ("torchserve", "publish", "digits", "-n", namespace, *folders, *files)
        try:
            missing = fnbuild(*command, "weights.pt")
            full = fnbuild(*command, "model.pt")
            subprocess.run(["mount", "-o", "remount,ro", str(volume)], check=True)
            read_only = fnbuild(*command, "model.pt")
        finally:
            cluster.delete(kinds.VOLUME, "", f"{namespace}-serving-model-pvc")
        assert cluster.list(kinds.DEPLOYMENT, namespace) == []
        assert [path for path in volume.rglob("*") if path.is_file()] == []
    assert f"error: there is no weights.pt in {tmp_path}\n" in missing.err
    assert "No space left on device\nhint: remove files that are no longer needed" in full.err
    assert "Read-only file system\nhint: mount the volume for writing" in read_only.err
    assert {missing.status, full.status, read_only.status} == {1}
