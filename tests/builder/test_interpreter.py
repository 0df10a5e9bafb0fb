"""The choice of the interpreter, and the warnings about it."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fnbuild.builder import interpreter
from fnbuild.builder.interpreter import choose_interpreter
from fnbuild.errors import BuildError
from fnbuild.function.types import EnvVar, Function, Spec

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"
OWN = f"{sys.version_info[0]}.{sys.version_info[1]}"


def function(runtime: str = "python:3.11", exe: str | None = None) -> Function:
    env = [] if exe is None else [EnvVar(name="NUCLIO_PYTHON_EXE_PATH", value=exe)]
    return Function(spec=Spec(runtime=runtime, env=env))


@pytest.fixture
def bare(monkeypatch, tmp_path):
    """A machine with only the programs that the test puts into the folder, which is all of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("PYENV_ROOT", str(tmp_path / "pyenv"))
    return folder


def fake(path: Path, version: tuple[int, int, int], prefix: str = "/usr") -> Path:
    """Write a program that responds like an interpreter of that version."""
    path.parent.mkdir(parents=True, exist_ok=True)
    answer = f'{{"path": "{path}", "prefix": "{prefix}", "version": {list(version)}}}'
    path.write_text(f"#!/bin/sh\necho '{answer}'\n")
    path.chmod(0o755)
    return path


@pytest.mark.parametrize("folder", sorted(PYENV.glob("3.*")), ids=lambda folder: folder.name)
def test_every_installed_version_is_found_by_its_label(folder):
    minor = ".".join(folder.name.split(".")[:2])
    choice = choose_interpreter(function(f"python:{minor}"))
    assert choice.warning is None
    assert ".".join(map(str, choice.version[:2])) == minor
    command = [choice.path, "-c", "import sys; print(*sys.version_info[:3], sep='.')"]
    assert subprocess.check_output(command, text=True).strip() == choice.version_text


@pytest.mark.parametrize("runtime", ["python", "", f"python:{OWN}"])
def test_fnbuilds_own_base_interpreter_is_used_if_it_matches(bare, runtime):
    choice = choose_interpreter(function(runtime))
    assert choice.warning is None
    assert choice.version == sys.version_info[:3]
    # The function must not see fnbuild's packages.
    code = "import sys; print(sys.prefix)"
    prefix = subprocess.check_output([choice.path, "-c", code], text=True).strip()
    assert prefix == sys.base_prefix


def test_a_missing_version_is_one_warning(bare):
    choice = choose_interpreter(function("python:3.99"))
    own = f"Python {'.'.join(map(str, sys.version_info[:3]))} ({choice.path})"
    assert choice.warning == (
        f"function requires python:3.99, which is not installed on this machine; running on {own}"
    )


def test_path_has_precedence(bare, tmp_path):
    fake(tmp_path / "pyenv/versions/3.98.1/bin/python3.98", (3, 98, 1))
    path = fake(bare / "python3.98", (3, 98, 7))
    assert choose_interpreter(function("python:3.98")).path == str(path)


def test_the_newest_patch_of_pyenv(bare, tmp_path):
    for patch in (2, 10, 9):
        name = f"pyenv/versions/3.98.{patch}/bin/python3.98"
        fake(tmp_path / name, (3, 98, patch))
    assert choose_interpreter(function("python:3.98")).version == (3, 98, 10)


def test_a_shim_without_an_interpreter_is_skipped(bare, tmp_path, monkeypatch):
    shim = fake(tmp_path / "shims" / "python3.98", (3, 98, 0))
    shim.write_text("#!/bin/sh\necho 'pyenv: python3.98: command not found' >&2\nexit 127\n")
    real = fake(tmp_path / "other" / "python3.98", (3, 98, 1))
    monkeypatch.setenv("PATH", f"{shim.parent}:{bare}:{real.parent}")
    assert choose_interpreter(function("python:3.98")).path == str(real)


def test_a_shim_is_used_if_nothing_else_matches(bare, tmp_path, monkeypatch):
    shim = fake(tmp_path / "shims" / "python3.98", (3, 98, 0))
    monkeypatch.setenv("PATH", str(shim.parent))
    assert choose_interpreter(function("python:3.98")).version == (3, 98, 0)


def test_a_program_with_another_version_than_its_name(bare):
    fake(bare / "python3.98", (3, 97, 0))
    assert "not installed on this machine" in choose_interpreter(function("python:3.98")).warning


def test_fnbuilds_own_environment_is_skipped(bare):
    # As after its activation.
    fake(bare / f"python{OWN}", (*map(int, OWN.split(".")), 0), prefix=sys.prefix)
    assert choose_interpreter(function(f"python:{OWN}")).path != str(bare / f"python{OWN}")


def test_a_program_that_hangs_is_skipped(bare, monkeypatch):
    monkeypatch.setattr(interpreter, "_QUERY_TIMEOUT_SECONDS", 2.0)
    path = bare / "python3.98"
    path.write_text("#!/bin/sh\nexec /bin/sleep 60\n")
    path.chmod(0o755)
    assert "not installed on this machine" in choose_interpreter(function("python:3.98")).warning


class TestNamedByTheFunction:
    def test_an_existing_path(self, bare, tmp_path):
        path = fake(tmp_path / "conda/bin/python", (3, 8, 1))
        choice = choose_interpreter(function("python:3.11", str(path)))
        assert (choice.path, choice.requested, choice.warning) == (str(path), True, None)

    def test_a_bare_name(self, bare):
        path = fake(bare / "python3", (3, 8, 1))
        assert choose_interpreter(function("python:3.11", "python3")).path == str(path)

    def test_a_bare_name_whose_shim_has_no_interpreter(self, bare, tmp_path, monkeypatch):
        shim = fake(tmp_path / "shims" / "python3.98", (3, 98, 0))
        shim.write_text("#!/bin/sh\nexit 127\n")
        monkeypatch.setenv("PATH", str(shim.parent))
        real = fake(tmp_path / "pyenv/versions/3.98.4/bin/python3.98", (3, 98, 4))
        assert choose_interpreter(function("python:3.11", "python3.98")).path == str(real)

    def test_a_path_of_another_machine(self, bare):
        choice = choose_interpreter(function("python:3.99", "/opt/conda/bin/python"))
        assert not choice.requested
        assert choice.warning == (
            "NUCLIO_PYTHON_EXE_PATH=/opt/conda/bin/python does not exist on this machine;"
            " function requires python:3.99, which is not installed on this machine;"
            f" running on Python {choice.version_text} ({choice.path})"
        )

    def test_a_path_of_another_machine_with_a_matching_label(self, bare):
        path = fake(bare / "python3.98", (3, 98, 7))
        choice = choose_interpreter(function("python:3.98", "/opt/conda/bin/python"))
        assert choice.warning == (
            "NUCLIO_PYTHON_EXE_PATH=/opt/conda/bin/python does not exist on this machine;"
            f" running on Python 3.98.7 ({path})"
        )

    def test_no_python(self, bare):
        path = bare / "cat"
        path.symlink_to("/bin/cat")
        with pytest.raises(BuildError, match="does not run as a Python interpreter"):
            choose_interpreter(function(exe=str(path)))

    def test_too_old(self, bare):
        path = fake(bare / "python2", (2, 7, 18))
        with pytest.raises(BuildError, match=r"is Python 2\.7\.18 .* need Python 3\.6 or later"):
            choose_interpreter(function(exe=str(path)))


def test_an_unreadable_folder_is_skipped(tmp_path, bare, monkeypatch):
    if os.getuid() != 0:
        pytest.skip("only root can close a folder to another user")
    private = tmp_path / "private"
    (private / ".pyenv" / "versions").mkdir(parents=True)
    private.chmod(0o700)
    monkeypatch.setenv("PYENV_ROOT", str(private / ".pyenv"))
    os.seteuid(65534)
    try:
        assert interpreter._pyenv_folders((3, 9)) == []
    finally:
        os.seteuid(0)
