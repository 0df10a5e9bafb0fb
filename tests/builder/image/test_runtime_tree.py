"""The runtime as a tree: always the same, small, and started by any kernel."""

from __future__ import annotations

import marshal
import os
import shutil
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from fnbuild.builder import sdk
from fnbuild.builder.image import runtime_tree
from fnbuild.builder.image.probe import ImagePython
from fnbuild.errors import BuildError
from fnbuild.names import RUNTIME_FOLDER
from tests.runtime import interpreters

pytestmark = pytest.mark.system

NEW = ImagePython("/usr/bin/python3", (3, 11, 2), "cpython")
THIS = ImagePython(sys.executable, sys.version_info[:3], sys.implementation.name)
OLD = ImagePython("/opt/conda/bin/python3.6", (3, 6, 15), "cpython")


@pytest.fixture(autouse=True)
def kept(releases: Path, data: Path) -> None:
    shutil.copytree(releases, data / "sdk")


def facts(top: Path) -> dict[str, tuple[object, ...]]:
    properties: dict[str, tuple[object, ...]] = {}
    for path in sorted(top.rglob("*")):
        about = path.lstat()
        content = path.read_bytes() if path.is_file() else b""
        properties[str(path.relative_to(top))] = (
            stat.filemode(about.st_mode),
            about.st_mtime,
            content,
        )
    return properties


def test_the_tree_is_independent_of_user_and_time(tmp_path: Path) -> None:
    runtime_tree.write_runtime(tmp_path / "a", OLD)
    before = os.umask(0o077)
    try:
        runtime_tree.write_runtime(tmp_path / "b", OLD)
    finally:
        os.umask(before)
    first, second = facts(tmp_path / "a"), facts(tmp_path / "b")
    assert first == second
    kinds = {about[0] for name, about in first.items() if name != "processor"}
    assert kinds == {"drwxr-xr-x", "-rw-r--r--"}
    assert first["processor"][0] == "-rwxr-xr-x"
    assert {about[1] for about in first.values()} == {runtime_tree.FILE_TIMESTAMP}


def test_the_tree_has_runtime_and_sdk(tmp_path: Path) -> None:
    runtime_tree.write_runtime(tmp_path, OLD)
    names = set(facts(tmp_path / "fnbuild"))
    assert {"fnbuild/__init__.py", "fnbuild/runtime/worker/worker.py"} <= names
    assert "fnbuild/vision/__init__.py" in names
    assert not [name for name in names if "__pycache__" in name or "/spec" in name]
    releases = sorted(path.name for path in (tmp_path / "fnbuild" / "sdk").iterdir())
    assert len(releases) == 2
    assert releases[0] == "0.5.13"
    size = sum(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file())
    assert size < 5 * 1000 * 1000


def test_an_old_sdk_is_included_only_for_an_old_python(tmp_path: Path) -> None:
    runtime_tree.write_runtime(tmp_path / "new", NEW)
    assert len(list((tmp_path / "new" / "fnbuild" / "sdk").iterdir())) == 1
    runtime_tree.write_runtime(tmp_path / "old", OLD)
    assert len(list((tmp_path / "old" / "fnbuild" / "sdk").iterdir())) == 2


def test_the_processors_python_changes_only_the_program(tmp_path: Path) -> None:
    runtime_tree.write_runtime(tmp_path / "a", NEW)
    runtime_tree.write_runtime(
        tmp_path / "b", ImagePython("/usr/local/bin/python3.9", (3, 9, 18), "cpython")
    )
    first, second = (facts(tmp_path / name / "fnbuild") for name in "ab")
    assert {name: about for name, about in first.items() if "__pycache__" not in name} == second
    first_line = (tmp_path / "b" / "processor").read_text().splitlines()[0]
    assert first_line == "#!/usr/local/bin/python3.9 -IS"


def test_the_python_of_this_process_gets_compiled_modules(tmp_path: Path) -> None:
    runtime_tree.write_runtime(tmp_path / "a", THIS)
    # Other modules than before are in use.
    program = "import sys, pathlib, numpy, tests.builder.image.test_runtime_tree as tree\n"
    program += "tree.runtime_tree.write_runtime(pathlib.Path(sys.argv[1]), tree.THIS)"
    subprocess.run([sys.executable, "-c", program, tmp_path / "b"], check=True)
    assert facts(tmp_path / "a") == facts(tmp_path / "b")
    # Python would find that other sources are newer, or that they are no modules.
    home = tmp_path / "a" / "fnbuild"
    for source in home.rglob("*.py"):
        source.write_bytes(b"?" * source.stat().st_size)
        os.utime(source, (runtime_tree.FILE_TIMESTAMP, runtime_tree.FILE_TIMESTAMP))
    program = f"import sys; sys.path.insert(0, {str(home)!r})\n"
    program += "from fnbuild.runtime import container; print(container.main.__code__.co_filename)"
    done = subprocess.run(
        [sys.executable, "-ISc", program], capture_output=True, text=True, check=False
    )
    assert done.stdout.strip() == f"{home}/fnbuild/runtime/container.py", done.stderr
    compiled = next(home.glob("fnbuild/runtime/__pycache__/container.*.pyc")).read_bytes()
    assert marshal.loads(compiled[16:]).co_filename == "/opt/fnbuild/fnbuild/runtime/container.py"


@pytest.mark.parametrize("folder", ["with a space", "long" * 30])
def test_a_path_that_a_shebang_cannot_name_gets_a_link(folder: str, tmp_path: Path) -> None:
    python = ImagePython(f"/opt/{folder}/bin/python3", (3, 9, 0), "cpython")
    runtime_tree.write_runtime(tmp_path, python)
    link = tmp_path / "fnbuild" / "python"
    assert os.readlink(link) == python.path
    assert link.lstat().st_mtime == runtime_tree.FILE_TIMESTAMP
    first = (tmp_path / "processor").read_text().splitlines()[0]
    assert first == "#!/opt/fnbuild/python -IS"


def test_without_network_the_missing_release_is_reported(tmp_path: Path, data: Path) -> None:
    shutil.rmtree(data / "sdk")
    runtime_tree.write_runtime(tmp_path / "new", NEW, offline=True)
    with pytest.raises(BuildError, match=r"needs nuclio-sdk 0\.5\.13, which may not be") as caught:
        runtime_tree.write_runtime(tmp_path / "old", OLD, offline=True)
    assert caught.value.hint is not None
    assert "--prepare-offline" in caught.value.hint


def test_a_prepared_build_fetches_nothing(tmp_path: Path, data: Path) -> None:
    assert sorted(path.name for path in sdk.ensure_all_sdks())[0] == "0.5.13"
    runtime_tree.write_runtime(tmp_path, OLD, offline=True)


@pytest.mark.parametrize("version", interpreters.every(interpreters.PYPY))
def test_every_python_runs_the_program(version: str, tmp_path: Path) -> None:
    python = interpreters.find(version)
    assert python is not None
    path = subprocess.check_output(
        [python, "-c", "import sys; print(sys.executable)"], text=True
    ).strip()
    runtime_tree.write_runtime(
        tmp_path, ImagePython(path, (*interpreters.numbers(version), 0), "cpython")
    )
    program = tmp_path / "processor"
    # The tree is not in the folder that it has in an image.
    program.write_text(program.read_text().replace(RUNTIME_FOLDER, str(tmp_path / "fnbuild")))
    done = subprocess.run(
        [program, "--version"], capture_output=True, text=True, check=True, env={"PYTHONHOME": "/x"}
    )
    number = version.removeprefix("pypy")
    assert f" {number}." in done.stdout
    assert done.stderr == ""
    done = subprocess.run(
        [program, "--config", "/nowhere"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "/nowhere cannot be read: No such file or directory" in done.stdout
    assert len(done.stdout.splitlines()) == 1
    assert done.stderr == ""


def test_an_old_virtual_environment_needs_its_site_module(tmp_path: Path) -> None:
    """virtualenv before 20 copied Python and a few modules."""
    python = interpreters.find("3.7")
    if python is None:
        pytest.skip("no python3.7 on this machine")
    environment = old_environment(Path(python), tmp_path / "venv")
    plain = [environment, "-IS", "-c", "import socket"]
    assert subprocess.run(plain, capture_output=True, check=False).returncode == 1
    runtime_tree.write_runtime(tmp_path, ImagePython(str(environment), (3, 7, 0), "cpython"))
    program = tmp_path / "processor"
    program.write_text(program.read_text().replace(RUNTIME_FOLDER, str(tmp_path / "fnbuild")))
    done = subprocess.run([program, "--version"], capture_output=True, text=True, check=False)
    assert "cpython 3.7." in done.stdout, done.stderr


def old_environment(python: Path, folder: Path) -> Path:
    prefix = subprocess.check_output(
        [python, "-c", "import sys; print(sys.base_prefix)"], text=True
    ).strip()
    library = Path(prefix, "lib", "python3.7")
    target = folder / "lib" / "python3.7"
    (target / "lib-dynload").mkdir(parents=True)
    (folder / "bin").mkdir()
    shutil.copy(Path(prefix, "bin", "python3.7"), folder / "bin" / "python")
    for name in (
        "os",
        "posixpath",
        "genericpath",
        "stat",
        "_collections_abc",
        "abc",
        "io",
        "codecs",
    ):
        (target / f"{name}.py").symlink_to(library / f"{name}.py")
    (target / "encodings").symlink_to(library / "encodings")
    (target / "orig-prefix.txt").write_text(prefix)
    (target / "site.py").write_text(
        "import sys\n"
        "def main():\n"
        f"    sys.path += [{str(library)!r}, {str(library / 'lib-dynload')!r}]\n"
    )
    return folder / "bin" / "python"
