"""Folder trees of any depth are walked and removed."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
from pathlib import Path

import pytest

from fnbuild import trees

pytestmark = pytest.mark.system


def nested_folders(top: Path, depth: int, name: str = "folder") -> Path:
    """Create nested folders below `top`, each with a file."""
    top.mkdir()
    current = os.open(top, os.O_RDONLY)
    for _ in range(depth):
        os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=current))
        os.mkdir(name, dir_fd=current)
        below = os.open(name, os.O_RDONLY, dir_fd=current)
        os.close(current)
        current = below
    os.close(current)
    return top


@pytest.mark.parametrize(("depth", "name"), [(5, "folder"), (1900, "d"), (1900, "n" * 200)])
def test_deep_trees_are_removed(tmp_path: Path, depth: int, name: str) -> None:
    trees.remove(nested_folders(tmp_path / "top", depth, name))
    assert list(tmp_path.iterdir()) == []


def test_links_are_removed_but_not_followed(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.mkdir()
    (kept / "file").touch()
    top = tmp_path / "top"
    (top / "inner").mkdir(parents=True)
    (top / "inner/link").symlink_to(kept)
    (top / "broken").symlink_to("nothing")
    trees.remove(top)
    (tmp_path / "link").symlink_to(kept)
    trees.remove(tmp_path / "link")
    trees.remove(tmp_path / "nothing")
    assert [path.name for path in tmp_path.iterdir()] == ["kept"]
    assert (kept / "file").exists()


def test_remove_continues_after_errors(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = tmp_path / "top"
    for name in ("a", "b", "c"):
        (top / name).mkdir(parents=True)
        (top / name / "file").touch()
    unlink = os.unlink

    def refuse(path: str, *, dir_fd: int | None = None) -> None:
        if dir_fd is not None and os.readlink(f"/proc/self/fd/{dir_fd}").endswith("/b"):
            raise PermissionError(1, "Operation not permitted")
        unlink(path, dir_fd=dir_fd)

    monkeypatch.setattr(os, "unlink", refuse)
    with pytest.raises(PermissionError):
        trees.remove(top)
    assert [path.name for path in top.iterdir()] == ["b"]
    with caplog.at_level(logging.WARNING):
        assert trees.try_remove(top) is False
    assert "cannot be removed: [Errno 1] Operation not permitted" in caplog.text
    monkeypatch.undo()
    assert trees.try_remove(top) is True


def test_owners_can_remove_read_only_folders(tmp_path: Path) -> None:
    closed = tmp_path / "top" / "closed"
    closed.mkdir(parents=True)
    (closed / "file").touch()
    closed.chmod(0o500)
    trees.remove(tmp_path / "top")
    assert not (tmp_path / "top").exists()


def test_temporary_folders_of_killed_processes_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    ended = subprocess.Popen(["true"])
    ended.wait()
    abandoned = tmp_path / f"room-{ended.pid}-x"
    (abandoned / "inner").mkdir(parents=True)
    others = {
        tmp_path / name for name in (f"room-{os.getppid()}-x", "room-12x-y", "room-x", "a-1-x")
    }
    for path in others:
        path.mkdir()
    with trees.temporary_folder("room-") as folder:
        assert folder.name.startswith(f"room-{os.getpid()}-")
        (folder / "file").touch()
        assert set(tmp_path.iterdir()) == {*others, folder}
    assert set(tmp_path.iterdir()) == others


def test_a_deep_tree_is_walked(tmp_path: Path) -> None:
    top = nested_folders(tmp_path / "top", 1200, "d")
    (top / "link").symlink_to(tmp_path)
    try:
        folders = [place for place, _, _ in trees.walk(top)]
    finally:
        trees.remove(top)  # pytest itself would recurse
    assert len(folders) == 1201
    assert folders == sorted(folders)


def test_walk_equals_the_walk_of_the_standard_library(tmp_path: Path) -> None:
    for path in ("a/b/c/file", "a/d/file", "e/file", "file"):
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).touch()
    (tmp_path / "a/loop").symlink_to(tmp_path)
    (tmp_path / "broken").symlink_to("nothing")
    assert sorted(trees.walk(tmp_path)) == sorted(os.walk(tmp_path))
    pruned = []
    for current, folders, _ in trees.walk(tmp_path):
        folders[:] = [name for name in folders if name != "a"]
        pruned.append(Path(current).name)
    assert pruned == [tmp_path.name, "e"]
