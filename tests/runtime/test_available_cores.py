"""The number of CPU cores available to a processor."""

from __future__ import annotations

from pathlib import Path

import pytest

from fnbuild.runtime.processor import launch

EVERY = launch.available_cores("/nowhere")


def test_without_control_groups_all_usable_cores_count() -> None:
    assert EVERY >= 1


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("max 100000", EVERY),
        ("100000 100000", 1),
        ("5000 100000", 1),
        ("150000 100000", min(2, EVERY)),
        ("100000000 100000", EVERY),
        ("", EVERY),
        ("100000 0", EVERY),
    ],
)
def test_a_limit_of_control_groups_version_2(text: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(text + "\n")
    assert launch.available_cores(str(tmp_path)) == expected


@pytest.mark.parametrize(("quota", "expected"), [("-1", EVERY), ("100000", 1)])
def test_a_limit_of_control_groups_version_1(quota: str, expected: int, tmp_path: Path) -> None:
    (tmp_path / "cpu").mkdir()
    (tmp_path / "cpu" / "cpu.cfs_quota_us").write_text(quota + "\n")
    (tmp_path / "cpu" / "cpu.cfs_period_us").write_text("100000\n")
    assert launch.available_cores(str(tmp_path)) == expected
