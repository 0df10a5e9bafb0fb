"""Unified diffs of two copies of a function's code."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from fnbuild.builder.artifact import Artifact
from fnbuild.builder.staging import scan_folder
from fnbuild.deploy import diff
from fnbuild.function.types import Function
from fnbuild.platforms import Change, Plan


@pytest.fixture
def old(tmp_path: Path) -> Path:
    folder = tmp_path / "old"
    folder.mkdir()
    return folder


@pytest.fixture
def new(tmp_path: Path) -> Path:
    folder = tmp_path / "new"
    folder.mkdir()
    return folder


def plan(*steps: Change) -> Plan:
    return Plan(Function(), Artifact("folder", "", ""), steps)


def text(old: Path, new: Path, *steps: Change) -> str:
    return diff.compare_plan(plan(*steps), scan_folder(old), scan_folder(new)).text


def test_text_files_have_a_line_diff(old: Path, new: Path) -> None:
    (old / "main.py").write_text("a\nb\nc\n")
    (new / "main.py").write_text("a\nB\nc")
    assert text(old, new) == (
        "--- main.py (running)\n+++ main.py (planned)\n@@ -1,3 +1,3 @@\n"
        " a\n-b\n-c\n+B\n+c\n\\ No newline at end of file\n"
    )


def test_added_and_removed_files_are_shown(old: Path, new: Path) -> None:
    (old / "gone.txt").write_text("bye\n")
    (new / "sub").mkdir()
    (new / "sub" / "come.txt").write_text("hello\n")
    (new / "empty.txt").touch()
    output = text(old, new)
    assert "-bye\n" in output
    assert "+hello\n" in output
    assert "+empty.txt: added (0 bytes)\n" in output
    assert "sub: " not in output


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a\0b", b"x" * (65 << 10)])
def test_binary_files_are_named_with_their_size(old: Path, new: Path, content: bytes) -> None:
    (old / "model").write_bytes(content)
    (new / "model").write_bytes(content + os.urandom(3 << 20))
    (new / "more").write_bytes(content)
    output = text(old, new)
    assert "+model: changed (3." in output
    assert "-model: " in output
    assert "+more: added (" in output


def test_unchanged_values_are_omitted(old: Path, new: Path) -> None:
    for folder in (old, new):
        (folder / "main.py").write_text("same\n")
        (folder / "link").symlink_to("main.py")
    assert text(old, new) == ""
    (new / "main.py").chmod(0o755)
    (new / "link").unlink()
    (new / "link").symlink_to("nowhere")
    output = text(old, new)
    assert "-link: link to main.py\n+link: changed (link to nowhere)\n" in output
    assert "+main.py: changed (5 bytes, executable)\n" in output


def test_the_hash_of_the_code_replaces_missing_files(new: Path) -> None:
    step = Change("update", "revision", {"code": "1", "python": "a"}, {"code": "2", "python": "a"})
    changed_plan = plan(step, Change("replace", "processor", None, {"order": "start"}))
    output = diff.compare_plan(changed_plan, None, scan_folder(new)).text
    assert "-code: '1'\n+code: '2'\n" in output
    assert "order" not in output
    assert diff.compare_plan(changed_plan, scan_folder(new), scan_folder(new)).text == ""
