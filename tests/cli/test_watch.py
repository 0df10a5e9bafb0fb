"""Changes below a folder."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fnbuild.cli.run import entry_file
from fnbuild.cli.watch import FolderWatcher
from fnbuild.errors import Report
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Function, Spec


def test_without_changes_nothing_is_reported(tmp_path: Path) -> None:
    (tmp_path / "main.py").write_text("1")
    assert FolderWatcher(tmp_path).changed() == set()


def test_new_changed_and_removed_files_are_reported_once(tmp_path: Path) -> None:
    for name in ("a.py", "b.py"):
        (tmp_path / name).write_text("1")
    watcher = FolderWatcher(tmp_path)
    (tmp_path / "a.py").write_text("22")
    (tmp_path / "b.py").unlink()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "c.py").write_text("1")
    names = {str(path.relative_to(tmp_path)) for path in watcher.changed()}
    assert names == {"a.py", "b.py", "sub/c.py"}
    assert watcher.changed() == set()


def test_a_file_replaced_by_rename_is_a_change(tmp_path: Path) -> None:
    """Editors save that way; size and even time may be the same."""
    target = tmp_path / "main.py"
    target.write_text("1")
    watcher = FolderWatcher(tmp_path)
    status = target.stat()
    other = tmp_path / "main.py.tmp"
    other.write_text("2")
    os.utime(other, ns=(status.st_atime_ns, status.st_mtime_ns))
    other.rename(target)
    assert watcher.changed() == {target}


@pytest.mark.parametrize("name", ["__pycache__/x.pyc", ".git/index", "main.py~", ".main.py.swp"])
def test_unrelated_files_are_not_watched(name: str, tmp_path: Path) -> None:
    watcher = FolderWatcher(tmp_path)
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("1")
    assert watcher.changed() == set()


def test_a_removed_folder_is_a_change_and_not_an_error(tmp_path: Path) -> None:
    folder = tmp_path / "f"
    folder.mkdir()
    (folder / "main.py").write_text("1")
    watcher = FolderWatcher(folder)
    (folder / "main.py").unlink()
    folder.rmdir()
    assert watcher.changed() == {folder / "main.py"}


@pytest.mark.parametrize(
    ("handler", "expected"),
    [("main:handler", "main.py"), ("pkg.sub:handler", "pkg/sub.py"), ("pkg:h", "pkg/__init__.py")],
)
def test_the_module_of_a_handler(handler: str, expected: str, tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg/__init__.py").write_text("")
    loaded = LoadedFunction(
        Function(spec=Spec(handler=handler)), Report(), tmp_path, None, None, ""
    )
    assert entry_file(loaded) == tmp_path / expected


def test_a_single_file_is_its_own_entry(tmp_path: Path) -> None:
    source = tmp_path / "f.py"
    loaded = LoadedFunction(Function(), Report(), tmp_path, None, source, "")
    assert entry_file(loaded) == source
