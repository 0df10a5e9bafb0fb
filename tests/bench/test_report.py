"""The tables in the document."""

from __future__ import annotations

from pathlib import Path

import pytest

from bench import markdown, report
from tests.bench.sample_results import one_slice, results

ROOT = Path(__file__).parents[2]


def test_only_text_between_the_markers_changes(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text(f"before\n{report.BEGIN}\nan earlier table\n{report.END}\nafter\n")
    values = results(one_slice("limit", 0, 100), one_slice("fnbuild", 0, 90))
    report.write(values, document)
    first = document.read_text()
    report.write(values, document)
    assert document.read_text() == first
    assert first.startswith("before\n")
    assert first.endswith("\nafter\n")
    assert "an earlier table" not in first
    assert "| fnbuild | 90 (0.90) |" in first


def test_a_document_without_markers_is_unchanged(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    document.write_text("text\n")
    with pytest.raises(markdown.MarkerError, match="has no <!-- bench: begin -->"):
        report.write(results(), document)
    assert document.read_text() == "text\n"


def test_the_repositorys_document_has_its_markers() -> None:
    text = (ROOT / "docs" / "performance.md").read_text()
    assert 0 < text.find(report.BEGIN) < text.find(report.END)
    assert 0 < text.find(report.TORCHSERVE_BEGIN) < text.find(report.TORCHSERVE_END)


def test_the_inference_protocols_have_markers_of_their_own(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    markers = [report.BEGIN, "before", report.END, report.PROTOCOLS_BEGIN, report.PROTOCOLS_END]
    document.write_text("\n".join(markers))
    slices = [
        one_slice("fnbuild", 0, 90, workload="v1"),
        one_slice("kserve", 0, 40, workload="v1"),
    ]
    report.write(results(*slices), document)
    first, _, protocols = document.read_text().partition(report.PROTOCOLS_BEGIN)
    assert "before" in first
    assert "| v1: times kserve at concurrency 8 | ≥ 1.5 | 2.25 | yes |" in protocols
    report.write(results(*slices, one_slice("flask", 0, 90)), document)
    first, _, protocols = document.read_text().partition(report.PROTOCOLS_BEGIN)
    assert "flask" in first
    assert "kserve |" not in first
    assert "flask +" not in protocols


def test_torchserve_as_the_only_peer_has_markers_of_its_own(tmp_path: Path) -> None:
    document = tmp_path / "performance.md"
    markers = [report.BEGIN, "before", report.END, report.TORCHSERVE_BEGIN, report.TORCHSERVE_END]
    document.write_text("\n".join(markers))
    slices = [
        one_slice(server, 0, rate, workload="jpeg")
        for server, rate in (("limit", 100), ("fnbuild", 90), ("torchserve", 30))
    ]
    alone = [
        {"server": "fnbuild", "workload": "torch", "cold_start": 1.0, "pss_loaded": 300.0},
        {"server": "torchserve", "workload": "torch", "cold_start": 4.0, "pss_loaded": 600.0},
    ]
    servers = {name: name for name in ("limit", "fnbuild", "torchserve")}
    report.write(results(*slices, lifecycle=alone, servers=servers), document)
    first, _, torchserve = document.read_text().partition(report.TORCHSERVE_BEGIN)
    assert "before" in first
    assert "| jpeg: times torchserve at concurrency 8 | ≥ 1.5 | 3.00 | yes |" in torchserve
    assert "| torch: a cold start through torchserve's | ≤ 0.5 | 0.25 | yes |" in torchserve
    assert "| torch: memory through torchserve's | ≤ 0.75 | 0.50 | yes |" in torchserve


def test_the_header_names_machine_command_and_releases() -> None:
    text = report.render(results(one_slice("limit", 0, 100)))
    assert "$ python -m bench run\n" in text
    assert "A processor, 2 cores, 8.0 GiB, Linux 6.1" in text
    assert "; 1 rounds, slices of 3 s.\n" in text
    assert "flask 3.1.3, kserve 0.21.0." in text


def test_a_busy_machine_is_reported() -> None:
    values = results(one_slice("limit", 0, 100))
    assert "busy" not in report.render(values)
    values["facts"]["load_at_start"] = 1.7
    assert "**The machine was busy with other work**" in report.render(values)


def test_missing_servers_are_listed_with_their_reasons() -> None:
    missing = {"*": {"torchserve": "java is not installed"}, "jpeg": {"kserve": "wrong replies"}}
    lifecycle = [{"workload": "echo", "server": "flask", "problem": "it ended"}]
    text = report.render(results(missing=missing, lifecycle=lifecycle))
    assert "- torchserve (all workloads): java is not installed" in text
    assert "- kserve (jpeg): wrong replies" in text
    assert "- flask (echo, alone): it ended" in text


def test_void_figures_and_missing_workers_are_reported() -> None:
    lifecycle = [
        {"workload": "echo", "server": "flask", "cold_start": 1.0, "restart": None},
        {"workload": "echo", "server": "fnbuild", "cold_start": 0.5, "restart": 0.25},
    ]
    text = report.render(
        results(
            one_slice("limit", 0, 100),
            one_slice("flask", 0, 90, void="2 x read"),
            lifecycle=lifecycle,
        )
    )
    assert "| flask + gunicorn | void: 2 x read |" in text
    assert "| flask + gunicorn | 1.00 | not back |" in text
    assert "| fnbuild | 0.50 | 0.25 |" in text
