"""What the scripts ask of pip."""

from __future__ import annotations

import os
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent


@pytest.mark.parametrize("name", ["install", "photos"])
def test_pip_keeps_warnings_of_its_configuration_to_itself(name: str, tmp_path: Path) -> None:
    """As loud as the script lets it be, in a place whose pip.conf names a folder that is gone."""
    metadata = "Metadata-Version: 2.1\nName: tiny\nVersion: 1\n"
    with zipfile.ZipFile(tmp_path / "tiny-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("tiny-1.dist-info/METADATA", metadata)
        wheel.writestr("tiny-1.dist-info/WHEEL", "Wheel-Version: 1.0\nTag: py3-none-any\n")
        wheel.writestr("tiny-1.dist-info/RECORD", "")
    script = (ROOT / "scripts" / name).read_text()
    pip, quiet = (sys.executable, "-m", "pip", "download"), ["--quiet"] * script.count("--quiet")
    places = f"{tmp_path}/gone {tmp_path}"
    done = subprocess.run(
        [*pip, *quiet, "--no-index", "--no-deps", "--dest", str(tmp_path / "to"), "tiny"],
        env={**os.environ, "PIP_FIND_LINKS": places, "PIP_DISABLE_PIP_VERSION_CHECK": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
