"""The nuclio_sdk for each interpreter."""

import os
import subprocess
import zipfile
from pathlib import Path

import pytest

from fnbuild.builder.interpreter import Interpreter
from fnbuild.builder.sdk import ensure_sdk
from fnbuild.errors import BuildError

pytestmark = pytest.mark.system

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
USE = """
import sys
sys.path.append(sys.argv[1])
import nuclio_sdk
print(nuclio_sdk.Response(body="x").status_code, nuclio_sdk.__file__)
"""


def interpreter(python: Path) -> Interpreter:
    major, minor, patch = python.parent.parent.name.split(".")
    return Interpreter(str(python), (int(major), int(minor), int(patch)))


@pytest.mark.parametrize(
    "python", sorted(PYENV.glob("3.*/bin/python")), ids=lambda python: python.parent.parent.name
)
def test_every_interpreter_imports_its_own_release(python, data):
    folder = ensure_sdk(interpreter(python).version)
    release = "0.5.13" if interpreter(python).version < (3, 7) else "0."
    assert folder.parent == data / "sdk"
    assert folder.name.startswith(release)
    assert [path.name for path in folder.iterdir()] == ["nuclio_sdk"]
    assert not (folder / "nuclio_sdk" / "test").exists()
    output = subprocess.check_output([python, "-c", USE, folder], cwd="/", text=True).split()
    assert output == ["200", str(folder / "nuclio_sdk" / "__init__.py")]
    assert ensure_sdk(interpreter(python).version) == folder
    assert sorted(path.name for path in (data / "sdk").iterdir()) == [folder.name]


@pytest.fixture
def wheel_folder(tmp_path, monkeypatch):
    """The only folder in which pip looks for packages."""
    folder = tmp_path / "wheel_folder"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


OLD = Interpreter("/usr/bin/python3.6", (3, 6, 15))


def test_without_network_the_error_has_a_remedy(wheel_folder, data):
    with pytest.raises(BuildError, match=r"needs nuclio-sdk 0\.5\.13, which cannot be") as caught:
        ensure_sdk(OLD.version)
    assert caught.value.hint == "deploy once with network access; later deploys use the copy"
    assert "No matching distribution" in caught.value.detail
    assert list((data / "sdk").iterdir()) == []


def test_another_file_of_that_name_is_refused(wheel_folder, data):
    about = "nuclio_sdk-0.5.13.dist-info"
    with zipfile.ZipFile(wheel_folder / "nuclio_sdk-0.5.13-py2.py3-none-any.whl", "w") as archive:
        archive.writestr("nuclio_sdk/__init__.py", "print('surprise')")
        archive.writestr(
            f"{about}/METADATA", "Metadata-Version: 2.1\nName: nuclio-sdk\nVersion: 0.5.13\n"
        )
        archive.writestr(f"{about}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\n")
        archive.writestr(f"{about}/RECORD", "")
    with pytest.raises(BuildError, match="is not the published file of that name"):
        ensure_sdk(OLD.version)
    assert list((data / "sdk").iterdir()) == []
