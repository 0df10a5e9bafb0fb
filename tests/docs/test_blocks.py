"""Run every shell and YAML block of README.md and docs/, in order, as a reader would.

Blocks of one file share a folder (a fresh copy of the repository) and a data directory. A block
whose info string names a file (`yaml function.yaml`) is written there first; a YAML block
that names none must be valid as function.yaml. `console` blocks show output and are not run.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path

import pytest

from fnbuild.function import reader
from tests.docs.cluster import cluster, kserve
from tests.docs.containers import containers
from tests.docs.torchserve import torchserve, torchserve_in_cluster

pytestmark = pytest.mark.system

ROOT = Path(__file__).parents[2]
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCE = re.compile(r"^```(\w+)?[ ]*([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)

# What documents need in addition to this machine.
NEEDS = {
    "containers.md": lambda _: containers(),
    "kubernetes.md": cluster,
    "kserve.md": kserve,
    "torchserve.md": torchserve,
    "torchserve-kubernetes.md": torchserve_in_cluster,
}

# The run of the whole test suite cannot be a step of itself; a clone needs the network.
NOT_RUN = re.compile(r"^(scripts/test|git clone .*|cd fnbuild)$", re.MULTILINE)


@dataclass(frozen=True)
class Block:
    language: str
    file: str
    text: str
    line: int


def blocks(document: Path) -> list[Block]:
    text = document.read_text()
    return [
        Block(m.group(1) or "", m.group(2).strip(), m.group(3), text.count("\n", 0, m.start()) + 1)
        for m in FENCE.finditer(text)
    ]


def copy_repository(target: Path) -> None:
    listed = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT,
        capture_output=True,
        check=True,
        text=True,
    ).stdout
    for name in filter(None, listed.split("\0")):
        source = ROOT / name
        if source.is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(source, target / name)
    (target / ".venv").symlink_to(ROOT / ".venv")
    if (ROOT / ".cache").exists():
        (target / ".cache").symlink_to(ROOT / ".cache")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_blocks(document: Path, tmp_path: Path) -> None:
    folder = tmp_path / "fnbuild"
    copy_repository(folder)
    environment = {
        **{k: v for k, v in os.environ.items() if not k.startswith(("FNBUILD_", "PYTEST_"))},
        "FNBUILD_DATA_DIR": str(tmp_path / "data"),
        "PATH": f"{ROOT / '.venv/bin'}{os.pathsep}{os.environ['PATH']}",
    }
    needed = NEEDS.get(document.name, lambda _: nullcontext({}))
    with needed(tmp_path) as more:
        follow(document, folder, {**environment, **more})


def follow(document: Path, folder: Path, environment: dict[str, str]) -> None:
    """Carry out the blocks of the document in order."""
    try:
        for block in blocks(document):
            place = f"{document.name}:{block.line}"
            if block.file:
                (folder / block.file).parent.mkdir(parents=True, exist_ok=True)
                (folder / block.file).write_text(block.text)
            if block.language == "sh":
                run(NOT_RUN.sub("", block.text), folder, environment, place)
            elif block.language == "yaml" and (not block.file or "function" in block.file):
                _, report = reader.function_from_text(block.text, place)
                assert not report.errors, report.render()
    finally:
        subprocess.run(
            ["fnbuild", "down"], cwd=folder, env=environment, capture_output=True, check=False
        )


def run(script: str, folder: Path, environment: dict[str, str], place: str) -> None:
    done = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", script],
        cwd=folder,
        env=environment,
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, f"{place}\n{script}\n{done.stdout}\n{done.stderr}"


@pytest.mark.parametrize("name", ["README.md", "docs/functions.md", "docs/dashboard.md"])
def test_functions_for_cvat_are_deployed_to_its_project(name: str) -> None:
    deploys = re.findall(r"^fnbuild deploy --path .*$", (ROOT / name).read_text(), re.MULTILINE)
    assert deploys[0].endswith(" --project-name cvat"), deploys[0]


def test_an_image_has_the_same_description_in_all_documents() -> None:
    descriptions: dict[Path, set[str]] = {}
    for document in DOCUMENTS:
        for text, path in re.findall(r"!\[(.*?)\]\((.*?)\)", document.read_text()):
            descriptions.setdefault((document.parent / path).resolve(), set()).add(text)
    assert {path.name: len(texts) for path, texts in descriptions.items() if len(texts) > 1} == {}
    assert ROOT / "docs/dashboard.jpg" in descriptions


def test_documents_name_only_scripts_that_exist() -> None:
    for document in DOCUMENTS:
        for name in re.findall(r"\bscripts/[a-z-]+", document.read_text()):
            assert os.access(ROOT / name, os.X_OK), f"{document.name} names {name}"
