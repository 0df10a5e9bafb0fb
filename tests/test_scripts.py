"""The scripts: their use of pip, and the files that they generate."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.system

ROOT = Path(__file__).parent.parent


# A build backend without requirements that builds an editable wheel.
BACKEND = """\
import zipfile

def build_editable(folder, settings=None, metadata=None):
    name = "small-1-py3-none-any.whl"
    with zipfile.ZipFile(folder + "/" + name, "w") as wheel:
        about = "Metadata-Version: 2.1\\nName: small\\nVersion: 1\\nRequires-Dist: tiny\\n"
        wheel.writestr("small-1.dist-info/METADATA", about)
        wheel.writestr("small-1.dist-info/WHEEL", "Wheel-Version: 1.0\\nTag: py3-none-any\\n")
        wheel.writestr("small-1.dist-info/RECORD", "")
    return name
"""
PROJECT = """\
[project]
name = "small"
version = "1"

[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
"""


def write_wheel(folder: Path) -> None:
    metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n"
    with zipfile.ZipFile(folder / "tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny-1.dist-info/METADATA", metadata)
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")


def install(checkout: Path, links: str) -> subprocess.CompletedProcess[str]:
    env = {name: value for name, value in os.environ.items() if not name.startswith("PIP_")}
    env |= {"PIP_NO_INDEX": "1", "PIP_FIND_LINKS": links}
    command = [checkout / "scripts/install"]
    return subprocess.run(command, env=env, capture_output=True, text=True, check=False)


def test_install_shows_progress_only_if_it_installs(
    tmp_path: Path,
) -> None:
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/install", tmp_path / "scripts")
    (tmp_path / "pyproject.toml").write_text(PROJECT)
    (tmp_path / "backend.py").write_text(BACKEND)
    # A missing folder of wheels makes pip warn.
    failed = install(tmp_path, f"{tmp_path}/gone")
    assert failed.returncode != 0
    assert "No matching distribution found for tiny" in failed.stderr
    assert not (tmp_path / ".venv/.installed").exists()
    write_wheel(tmp_path)
    result = install(tmp_path, f"{tmp_path}/gone {tmp_path}")
    assert result.returncode == 0, result.stderr
    lines = result.stderr.splitlines()
    assert "installing fnbuild into .venv" in lines
    assert any(line.startswith("  Processing ") and "tiny-1" in line for line in lines), lines
    assert any(line.startswith("  Installing collected packages: ") for line in lines)
    assert "WARNING" not in result.stderr
    second = install(tmp_path, "")
    assert (second.returncode, second.stdout, second.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["photos"])
def test_pip_shows_no_warnings_about_its_configuration(name: str, tmp_path: Path) -> None:
    """pip runs with the verbosity of the script and a configuration with a missing folder."""
    write_wheel(tmp_path)
    script = (ROOT / "scripts" / name).read_text()
    pip, quiet = (sys.executable, "-m", "pip", "download"), ["--quiet"] * script.count("--quiet")
    places = f"{tmp_path}/gone {tmp_path}"
    result = subprocess.run(
        [*pip, *quiet, "--no-index", "--no-deps", "--dest", str(tmp_path / "to"), "tiny"],
        env={**os.environ, "PIP_FIND_LINKS": places, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


@pytest.mark.parametrize("name", ["reference", "onnx-templates"])
def test_generated_files_are_up_to_date(name: str) -> None:
    result = subprocess.run(
        [sys.executable, ROOT / "scripts" / name, "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert (result.returncode, result.stderr) == (0, "")
