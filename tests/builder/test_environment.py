"""Real environments: their packages, when they are reused, and their errors."""

import contextlib
import os
import shutil
import subprocess
import sys
import threading
import zipfile
from pathlib import Path

import pytest

from fnbuild.builder.environment import (
    ensure_environment,
    keep_environments,
    prune_environments,
    requirements_of_base,
    unused_environments,
)
from fnbuild.builder.interpreter import Interpreter, choose_interpreter
from fnbuild.builder.requirements import Requirements, collect_requirements
from fnbuild.datadir import hold_lock
from fnbuild.errors import BuildError
from fnbuild.function.types import Build, EnvVar, Function, Spec

pytestmark = pytest.mark.system

PYENV = Path(os.environ.get("PYENV_ROOT") or Path.home() / ".pyenv") / "versions"


@pytest.fixture(autouse=True)
def wheels(tmp_path, monkeypatch):
    """The only folder in which pip looks for packages."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return folder


def wheel(folder: Path, name: str, version: str = "1.0", requires: str = "") -> Path:
    """Create a package with one module that has its version."""
    path = folder / f"{name}-{version}-py3-none-any.whl"
    about = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    metadata += f"Requires-Dist: {requires}\n" if requires else ""
    tags = "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(f"{name}.py", f"version = {version!r}\n")
        archive.writestr(f"{about}/METADATA", metadata)
        archive.writestr(f"{about}/WHEEL", tags)
        archive.writestr(f"{about}/RECORD", "")
    return path


def page(folder: Path, path: Path) -> str:
    """Return the URL of an index that states the required Python of the package."""
    name = path.name.partition("-")[0]
    (folder / "simple" / name).mkdir(parents=True)
    link = f'<a href="{path.as_uri()}" data-requires-python="&gt;=4">{path.name}</a>'
    (folder / "simple" / name / "index.html").write_text(f"<!DOCTYPE html>{link}")
    return (folder / "simple").as_uri()


def run(python: Path, code: str) -> str:
    # Not from the test's folder, which would be on the import path.
    return subprocess.check_output(
        [python, "-c", code], cwd="/", text=True, stderr=subprocess.STDOUT
    ).strip()


@pytest.fixture
def here():
    return choose_interpreter(Function(spec=Spec(runtime="python")))


@pytest.fixture
def requirements_of(folder):
    """Return the requirements of a function with these pip commands."""

    def read(*commands: str) -> Requirements:
        return collect_requirements(
            Function(spec=Spec(build=Build(commands=list(commands)))), folder
        )

    return read


class Progress(list):
    """Recorded progress."""

    def __call__(self, text: str) -> None:
        self.append(text)

    @property
    def text(self) -> str:
        return "\n".join(self)


class TestCreation:
    def test_without_requirements_there_is_no_environment(self, here, requirements_of, data):
        assert ensure_environment(here, requirements_of("apt-get update"), Progress()) is None
        assert not (data / "environments").exists()

    def test_it_has_the_requirements_and_nothing_of_fnbuild(
        self, here, requirements_of, wheels, write
    ):
        wheel(wheels, "tiny", requires="tinier")
        wheel(wheels, "tinier")
        wheel(wheels, "other", "2.0")
        write("requirements.txt", "other<3\n")
        messages = Progress()
        python = ensure_environment(here, requirements_of("pip install tiny"), messages)
        assert run(python, "import tiny, tinier, other; print(other.version)") == "2.0"
        with pytest.raises(subprocess.CalledProcessError):
            run(python, "import msgspec")
        assert (
            messages[0] == f"creating an environment with 2 packages for Python {here.version_text}"
        )
        assert "pip: Successfully installed tinier-1.0 tiny-1.0" in messages
        assert "/environments/" not in messages.text

    def test_steps_run_in_their_order(self, here, requirements_of, wheels):
        for name in ("a", "b"):
            wheel(wheels, name)
        wheel(wheels, "a", "2.0")
        requirements = requirements_of(
            "pip install a==1.0 b", "pip install -U a", "pip uninstall -y b"
        )
        python = ensure_environment(here, requirements, Progress())
        assert run(python, "import a; print(a.version)") == "2.0"
        with pytest.raises(subprocess.CalledProcessError, match="1"):
            run(python, "import b")

    def test_constraints_hold(self, here, requirements_of, wheels, write):
        wheel(wheels, "a", "1.0")
        wheel(wheels, "a", "2.0")
        write("limits.txt", "a<2\n")
        python = ensure_environment(
            here, requirements_of("pip install a -c limits.txt"), Progress()
        )
        assert run(python, "import a; print(a.version)") == "1.0"

    def test_a_package_of_the_function(self, here, requirements_of, write, folder):
        write("lib/pyproject.toml", PYPROJECT)
        write("lib/backend.py", BACKEND)
        write("lib/version.txt", "7", 0o444)
        before = sorted(folder.rglob("*"))
        python = ensure_environment(here, requirements_of("pip install -e ./lib"), Progress())
        assert run(python, "import lib; print(lib.version)") == "7"
        # The build used a copy: the installed package does not refer to the folder.
        assert sorted(folder.rglob("*")) == before
        assert str(folder) not in run(python, "import lib; print(lib.__file__)")

    def test_settings_of_the_user_are_ignored(self, here, requirements_of, wheels, monkeypatch):
        wheel(wheels, "tiny")
        monkeypatch.setenv("PIP_USER", "1")
        monkeypatch.setenv("PIP_TARGET", str(wheels / "target"))
        monkeypatch.setenv("PIP_PREFIX", str(wheels / "prefix"))
        monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
        monkeypatch.setenv("PYTHONPATH", str(wheels))
        python = ensure_environment(here, requirements_of("pip install tiny"), Progress())
        monkeypatch.delenv("PYTHONPATH")
        assert run(python, "import tiny; print(tiny.version)") == "1.0"

    def test_a_module_called_pip_in_the_callers_folder(self, here, requirements_of, wheels, write):
        wheel(wheels, "tiny")
        with contextlib.chdir(write("pip.py", "raise SystemExit('not pip')\n").parent):
            assert ensure_environment(here, requirements_of("pip install tiny"), Progress())


class TestInterpreters:
    @pytest.mark.parametrize("minor", ["3.6", "3.8", "3.13"])
    def test_each_interpreter_has_its_own_packages(self, requirements_of, wheels, minor):
        if not any(PYENV.glob(f"{minor}.*")):
            pytest.skip(f"Python {minor} is not installed here")
        wheel(wheels, "tiny")
        interpreter = choose_interpreter(Function(spec=Spec(runtime=f"python:{minor}")))
        messages = Progress()
        python = ensure_environment(interpreter, requirements_of("pip install tiny"), messages)
        code = "import tiny, sys; print('%d.%d' % sys.version_info[:2])"
        assert run(python, code) == minor
        # As in base images, which lost it with Python 3.12.
        has_setuptools = run(python, "import importlib.util as u; print(u.find_spec('setuptools'))")
        assert (has_setuptools != "None") == (minor != "3.13")

    def test_the_systems_python_may_lack_ensurepip(self, requirements_of, wheels):
        if not Path("/usr/bin/python3").exists():
            pytest.skip("there is no /usr/bin/python3")
        wheel(wheels, "tiny")
        variable = EnvVar(name="NUCLIO_PYTHON_EXE_PATH", value="/usr/bin/python3")
        interpreter = choose_interpreter(Function(spec=Spec(env=[variable])))
        python = ensure_environment(interpreter, requirements_of("pip install tiny"), Progress())
        assert run(python, "import tiny; print(tiny.version)") == "1.0"

    def test_packages_of_a_named_interpreter_are_visible(self, here, requirements_of, wheels):
        wheel(wheels, "theirs")
        wheel(wheels, "ours")
        environment = ensure_environment(here, requirements_of("pip install theirs"), Progress())
        named = Interpreter(str(environment), here.version, requested=True)
        python = ensure_environment(named, requirements_of("pip install ours"), Progress())
        assert python != environment
        assert run(python, "import ours, theirs; print(theirs.version)") == "1.0"
        with pytest.raises(subprocess.CalledProcessError):
            run(environment, "import ours")

    def test_an_interpreter_without_venv(self, requirements_of, tmp_path, here):
        broken = tmp_path / "python"
        broken.write_text("#!/bin/sh\necho 'No module named venv'\nexit 1\n")
        broken.chmod(0o755)
        with pytest.raises(BuildError, match="cannot create an environment with") as caught:
            ensure_environment(
                Interpreter(str(broken), here.version),
                requirements_of("pip install tiny"),
                Progress(),
            )
        assert caught.value.detail == "No module named venv"
        assert "venv module" in caught.value.hint


class TestReuse:
    def test_the_second_time_the_environment_is_reused(self, here, requirements_of, wheels):
        path = wheel(wheels, "tiny")
        first = ensure_environment(here, requirements_of("pip install tiny"), Progress())
        path.unlink()
        messages = Progress()
        assert ensure_environment(here, requirements_of("pip install tiny"), messages) == first
        assert messages == ["environment with 1 package already exists"]

    def test_equal_requirements_in_another_folder_share_it(self, here, wheels, tmp_path):
        wheel(wheels, "tiny")
        local = wheel(tmp_path, "local")
        environments = set()
        for name in ("one", "two"):
            folder = tmp_path / name
            folder.mkdir()
            (folder / "requirements.txt").write_text("tiny\n")
            shutil.copy(local, folder)
            (folder / "more.txt").write_text("./local-1.0-py3-none-any.whl\n")
            function = Function(spec=Spec(build=Build(commands=["pip install -r more.txt"])))
            environments.add(
                ensure_environment(here, collect_requirements(function, folder), Progress())
            )
        assert len(environments) == 1

    def test_editing_a_local_package_installs_only_it(
        self, here, requirements_of, wheels, write, folder
    ):
        wheel(wheels, "a", requires="b")
        wheel(wheels, "b")
        write("lib/pyproject.toml", PYPROJECT)
        write("lib/backend.py", BACKEND)
        write("lib/version.txt", "7")
        write("requirements.txt", "a\n./lib\n")
        first = ensure_environment(here, requirements_of(), Progress())
        assert run(first, "import a, b, lib; print(lib.version)") == "7"
        for path in wheels.iterdir():
            path.unlink()
        write("lib/version.txt", "8")
        messages = Progress()
        second = ensure_environment(here, requirements_of(), messages)
        assert run(second, "import a, b, lib; print(lib.version)") == "8"
        assert run(first, "import lib; print(lib.version)") == "7"
        assert messages[0] == "environment with 1 package already exists"
        assert "pip: Successfully installed lib-1.0" in messages
        # Without its base it is unusable, so the base is not removed meanwhile.
        assert unused_environments({second}) == [first.parent.parent]
        prune_environments(lambda: {second})
        assert unused_environments({second}) == []
        assert run(second, "import a; print(a.version)") == "1.0"
        assert not first.parent.parent.exists()
        prune_environments(set)
        assert [path.name for path in first.parents[2].iterdir()] == ["gate"]

    def test_dependencies_of_a_local_package_are_in_the_shared_base(
        self, here, requirements_of, wheels, write
    ):
        wheel(wheels, "a")
        wheel(wheels, "b", "2.0")
        needed = "dependencies = ['a']\noptional-dependencies.more = ['b>1']\n"
        write("lib/pyproject.toml", PYPROJECT + needed)
        write("lib/backend.py", BACKEND)
        write("lib/version.txt", "7")
        base_requirements = requirements_of_base(requirements_of("pip install './lib[more]'"))
        assert base_requirements is not None
        [step] = base_requirements.steps
        assert step.packages == ("a", "b>1")
        assert step.own_packages == ()
        python = ensure_environment(here, requirements_of("pip install './lib[more]'"), Progress())
        assert run(python, "import a, b, lib; print(b.version)") == "2.0"

    def test_there_is_no_shared_base_if_it_saves_nothing(self, requirements_of, wheels, write):
        wheel(wheels, "a")
        write("lib/pyproject.toml", PYPROJECT)
        assert requirements_of_base(requirements_of("pip install a")) is None
        assert requirements_of_base(requirements_of("pip install ./lib")) is None
        assert requirements_of_base(requirements_of("pip install -U a ./lib")) is None
        assert (
            requirements_of_base(requirements_of("pip install a ./lib", "pip uninstall -y a"))
            is None
        )
        assert requirements_of_base(requirements_of("pip install a ./lib")) is not None

    def test_archives_in_the_folder_are_identified_by_content(self, here, tmp_path):
        environments, requests = set(), set()
        local = wheel(tmp_path, "local")
        linked = [wheel(tmp_path, "linked", version) for version in ("1.0", "1.1")]
        for name, package in (("one", linked[0]), ("two", linked[0]), ("three", linked[1])):
            folder = tmp_path / name
            (folder / "links").mkdir(parents=True)
            shutil.copy(package, folder / "links")
            shutil.copy(local, folder)
            lines = "--find-links ./links\nlinked\nlocal @ file:local-1.0-py3-none-any.whl\n"
            (folder / "requirements.txt").write_text(lines)
            requirements = collect_requirements(Function(), folder)
            requests.add(requirements.packages)
            environments.add(ensure_environment(here, requirements, Progress()))
        assert len(environments) == 2
        assert requests == {("linked", "./local-1.0-py3-none-any.whl")}

    def test_each_change_creates_another(self, here, requirements_of, wheels, write):
        wheel(wheels, "tiny")
        write("requirements.txt", "tiny\n-c limits.txt\n")
        write("limits.txt", "tiny<2\n")
        first = ensure_environment(here, requirements_of(), Progress())
        write("limits.txt", "tiny<3\n")
        second = ensure_environment(here, requirements_of(), Progress())
        write("requirements.txt", "tiny>=1\n-c limits.txt\n")
        assert len({first, second, ensure_environment(here, requirements_of(), Progress())}) == 3

    def test_an_incomplete_environment_is_created_again(self, here, requirements_of, wheels):
        wheel(wheels, "tiny")
        python = ensure_environment(here, requirements_of("pip install tiny"), Progress())
        folder = python.parent.parent
        (folder / "complete.json").unlink()
        (folder / "leftover").touch()
        assert ensure_environment(here, requirements_of("pip install tiny"), Progress()) == python
        assert not (folder / "leftover").exists()

    def test_an_environment_without_its_interpreter_is_created_again(
        self, here, requirements_of, wheels
    ):
        wheel(wheels, "tiny")
        python = ensure_environment(here, requirements_of("pip install tiny"), Progress())
        python.unlink()
        python.symlink_to("/gone/python")
        assert (
            run(
                ensure_environment(here, requirements_of("pip install tiny"), Progress()),
                "import tiny",
            )
            == ""
        )

    def test_a_concurrent_second_call_waits_and_reports_it(
        self, here, requirements_of, wheels, data
    ):
        wheel(wheels, "tiny")
        python = ensure_environment(here, requirements_of("pip install tiny"), Progress())
        folder = python.parent.parent
        (folder / "complete.json").rename(folder / "kept.json")
        messages, done = Progress(), threading.Event()
        waiting = threading.Event()

        def progress(text: str) -> None:
            messages(text)
            waiting.set()

        def second() -> None:
            ensure_environment(here, requirements_of("pip install tiny"), progress)
            done.set()

        thread = threading.Thread(target=second)
        with hold_lock(folder.with_suffix(".lock"), "made", lambda holder: None):
            thread.start()
            assert waiting.wait(30)
            (folder / "kept.json").rename(folder / "complete.json")
        assert done.wait(30)
        thread.join()
        assert len(messages) == 1
        assert messages[0].startswith(f"waiting for process {os.getpid()} (since ")


class TestPruning:
    def test_only_unused_environments_are_removed(self, here, requirements_of, wheels):
        for name in ("one", "two"):
            wheel(wheels, name)
        first, second = (
            ensure_environment(here, requirements_of(f"pip install {name}"), Progress())
            for name in ("one", "two")
        )
        prune_environments(lambda: {first})
        assert run(first, "import one; print(one.version)") == "1.0"
        assert not second.parent.parent.exists()
        assert not second.parent.parent.with_suffix(".lock").exists()
        assert ensure_environment(here, requirements_of("pip install two"), Progress()) == second

    def test_nothing_is_removed_while_an_unrecorded_environment_is_in_use(
        self, here, requirements_of, wheels
    ):
        wheel(wheels, "tiny")
        asks = []

        def used() -> set[Path]:
            asks.append(1)
            return set()

        with keep_environments(), keep_environments():
            python = ensure_environment(here, requirements_of("pip install tiny"), Progress())
            prune_environments(used)
            assert python.exists()
        assert asks == []
        prune_environments(used)
        assert not python.exists()


class TestErrors:
    def test_pips_own_message_comes_first(self, here, requirements_of, data):
        with pytest.raises(BuildError) as caught:
            ensure_environment(here, requirements_of("pip install no-such-package==1"), Progress())
        assert str(caught.value) == (
            "spec.build.commands[0]: packages cannot be installed: No matching distribution found"
            " for no-such-package==1"
        )
        first, second, *_ = caught.value.detail.splitlines()
        assert first.startswith("ERROR: Could not find a version")
        assert second == "ERROR: No matching distribution found for no-such-package==1"
        assert "check the name" in caught.value.hint
        assert [path.suffix for path in (data / "environments").iterdir()] == [".lock"]

    def test_an_invalid_requirement_is_quoted_as_written(self, here, requirements_of, write):
        write("requirements.txt", "# what it needs\n-r more.txt\n")
        write("more.txt", "tiny\n\nnot a requirement\n")
        with pytest.raises(BuildError) as caught:
            ensure_environment(here, requirements_of(), Progress())
        assert "Invalid requirement" in str(caught.value)
        assert "more.txt:3" in str(caught.value)
        assert "environments" not in f"{caught.value} {caught.value.detail}"

    def test_versions_for_other_pythons_are_not_reported(
        self, here, requirements_of, wheels, monkeypatch
    ):
        elsewhere = wheels.parent / "elsewhere"
        elsewhere.mkdir()
        index = page(elsewhere, wheel(elsewhere, "tiny", "2.0"))
        monkeypatch.delenv("PIP_NO_INDEX")
        with pytest.raises(BuildError) as caught:
            ensure_environment(
                here, requirements_of(f"pip install tiny==2.0 --index-url {index}"), Progress()
            )
        assert "Ignored the following versions" in caught.value.detail
        assert str(caught.value).endswith("No matching distribution found for tiny==2.0")

    def test_no_network_and_no_secret(self, here, requirements_of, monkeypatch):
        monkeypatch.delenv("PIP_NO_INDEX")
        monkeypatch.setenv("PIP_RETRIES", "1")
        messages = Progress()
        url = "http://ada:s3cr3t@127.0.0.1:9/simple"
        with pytest.raises(BuildError) as caught:
            ensure_environment(
                here, requirements_of(f"pip install tiny --index-url {url}"), messages
            )
        assert "could not reach its package index" in caught.value.hint
        assert "s3cr3t" not in f"{caught.value} {caught.value.detail} {messages.text}"
        assert "***@127.0.0.1:9" in caught.value.detail

    def test_a_full_disk(self, here, requirements_of, wheels, tiny_disk, monkeypatch):
        path = wheel(wheels, "large")
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("large.bin", os.urandom(2 << 20))
        monkeypatch.setenv("FNBUILD_DATA_DIR", str(tiny_disk / "data"))
        with pytest.raises(BuildError) as caught:
            ensure_environment(here, requirements_of("pip install large"), Progress())
        message = f"{caught.value} {caught.value.detail} {caught.value.hint}"
        assert "No space left on device" in message
        assert len(list(tiny_disk.glob("data/environments/*"))) == 1

    def test_a_killed_installation(self, requirements_of, wheels, write, data, here):
        write("lib/pyproject.toml", PYPROJECT)
        write("lib/backend.py", "import time\nopen(MARK, 'w').close()\ntime.sleep(600)\n".replace(
            "MARK", repr(str(wheels / "building"))))  # fmt: skip
        folder = write("lib/x").parent.parent
        maker = subprocess.Popen([sys.executable, "-c", MAKE, str(folder)], start_new_session=True)
        try:
            wait_for((wheels / "building").exists)
        finally:
            os.killpg(maker.pid, 9)
            maker.wait()
        write("lib/backend.py", BACKEND)
        write("lib/version.txt", "8")
        python = ensure_environment(here, requirements_of("pip install ./lib"), Progress())
        assert run(python, "import lib; print(lib.version)") == "8"


def wait_for(condition, seconds: float = 60.0) -> None:
    """Wait until the condition holds; fail if it does not in time."""
    deadline = threading.Event()
    for _ in range(int(seconds / 0.02)):
        if condition():
            return
        deadline.wait(0.02)
    raise AssertionError("it did not happen in time")


MAKE = """
import sys
from pathlib import Path
from fnbuild.builder.environment import ensure_environment
from fnbuild.builder.interpreter import choose_interpreter
from fnbuild.builder.requirements import collect_requirements
from fnbuild.function.types import Build, Function, Spec
function = Function(spec=Spec(runtime="python", build=Build(commands=["pip install ./lib"])))
requirements = collect_requirements(function, Path(sys.argv[1]))
ensure_environment(choose_interpreter(function), requirements, print)
"""

PYPROJECT = """\
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "lib"
version = "1.0"
"""

# A build backend that needs nothing but Python.
BACKEND = """
import os, zipfile

def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    open("written-by-the-build", "w").close()
    name = "lib-1.0-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(wheel_directory, name), "w") as archive:
        archive.writestr("lib.py", "version = %s" % open("version.txt").read())
        archive.writestr("lib-1.0.dist-info/METADATA",
                         "Metadata-Version: 2.1\\nName: lib\\nVersion: 1.0\\n")
        archive.writestr("lib-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\\nGenerator: x\\n"
                         "Root-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr("lib-1.0.dist-info/RECORD", "")
    return name
"""
