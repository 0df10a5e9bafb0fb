"""The staged copy: its files, files that are left out, and that it is complete or absent."""

import base64
import os
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
import yaml

from fnbuild import trees
from fnbuild.builder.staging import code_digest, remove_abandoned_copies, stage
from fnbuild.errors import BuildError, ConflictError, Report
from fnbuild.function.reader import LoadedFunction
from fnbuild.function.types import Build, Function, Spec


def unchecked_function(function: Function, folder: Path) -> LoadedFunction:
    """Return a function that was not checked."""
    return LoadedFunction(function, Report(), folder, folder / "function.yaml", None, "")


def names(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


@pytest.fixture
def unprivileged(tmp_path, monkeypatch):
    """A writable folder for the user of the code in the block, who is not root."""

    @contextmanager
    def step_down():
        with tempfile.TemporaryDirectory() as place:
            monkeypatch.setenv("FNBUILD_DATA_DIR", f"{place}/data")
            if os.getuid() != 0:
                yield Path(place)
                return
            os.chown(place, 65534, -1)
            for parent in (tmp_path, *tmp_path.parents[:3]):
                if parent.name.startswith(("test_", "pytest", "popen")):
                    parent.chmod(0o755)
            os.seteuid(65534)
            try:
                yield Path(place)
            finally:
                os.seteuid(0)

    return step_down


@pytest.fixture
def staged(loaded, tmp_path):
    """Stage the folder, and return the copy."""

    def run(**options):
        destination = tmp_path / "out" / "code"
        artifact = stage(loaded(**options), destination)
        assert artifact.reference == str(destination)
        assert artifact.kind == "folder"
        return destination

    return run


class TestContents:
    def test_the_whole_folder(self, staged, write, folder):
        write("weights/model.bin", os.urandom(300_000))
        write("run.sh", "#!/bin/sh\n", 0o755)
        (folder / "empty").mkdir()
        copy = staged()
        assert names(copy) == [
            *("empty", "function.yaml", "main.py", "run.sh", "weights", "weights/model.bin")
        ]
        assert (copy / "weights/model.bin").read_bytes() == (
            folder / "weights/model.bin"
        ).read_bytes()
        assert stat.S_IMODE((copy / "main.py").stat().st_mode) == 0o444
        assert stat.S_IMODE((copy / "run.sh").stat().st_mode) == 0o555

    def test_files_that_never_belong_to_a_function(self, staged, write, folder, tmp_path):
        (folder / ".venv").symlink_to(tmp_path)
        write(".git/config")
        write("sub/.git", "gitdir: elsewhere")
        write("__pycache__/main.cpython-311.pyc")
        write("old.pyc")
        write("sub/env/pyvenv.cfg")
        write("sub/env/bin/activate")
        write(".env", "KEY=1")
        write(".dockerignore", "main.py")
        assert names(staged()) == [
            *(".dockerignore", ".env", "function.yaml", "main.py", "sub"),
        ]

    def test_the_data_directory_inside_the_folder(self, staged, folder, monkeypatch):
        monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder / "state"))
        (folder / "state").mkdir()
        (folder / "state" / "fnbuild.db").touch()
        assert names(staged()) == ["function.yaml", "main.py"]

    def test_a_destination_inside_the_folder(self, loaded, folder):
        before = code_digest(loaded())
        artifact = stage(loaded(), folder / "build" / "code")
        assert names(folder / "build") == ["code", "code/function.yaml", "code/main.py"]
        assert artifact.digest == before

    def test_names_of_any_bytes(self, staged, folder):
        for name in (b"sp ace", b"new\nline", "ümlaut 顔".encode(), b"latin-\xe9"):
            (folder / os.fsdecode(name)).write_text("x")
        copied = {os.fsencode(name) for name in names(staged())}
        assert {b"sp ace", b"new\nline", "ümlaut 顔".encode(), b"latin-\xe9"} < copied

    def test_a_folder_reached_by_a_link(self, tmp_path, folder, loaded):
        (tmp_path / "link").symlink_to(folder)
        (folder / "same").symlink_to("main.py")
        copy = tmp_path / "copy"
        stage(loaded(tmp_path / "link"), copy)
        assert names(copy) == ["function.yaml", "main.py", "same"]


class TestSharing:
    def test_large_files_are_shared_when_they_are_the_same(self, staged, loaded, write, tmp_path):
        write("weights.bin", b"\1" * (2 << 20))
        write("small.bin", b"\1")
        first, second = staged(), tmp_path / "second"
        artifact = stage(loaded(), second, previous=first)
        assert (second / "weights.bin").samefile(first / "weights.bin")
        assert not (second / "small.bin").samefile(first / "small.bin")
        assert artifact.digest == code_digest(loaded())

    @pytest.mark.parametrize("change", ["content", "mode", "gone", "folder"])
    def test_files_that_differ_are_copied(self, staged, loaded, write, tmp_path, change):
        weights = write("weights.bin", b"\1" * (2 << 20))
        first, second = staged(), tmp_path / "second"
        if change == "content":
            weights.write_bytes(b"\2" * (2 << 20))
        elif change == "mode":
            weights.chmod(0o755)
        else:
            (first / "weights.bin").unlink()
            if change == "folder":
                (first / "weights.bin").mkdir()
        stage(loaded(), second, previous=first)
        assert (second / "weights.bin").read_bytes() == weights.read_bytes()
        assert (second / "weights.bin").stat().st_nlink == 1


class TestConfiguration:
    def test_another_configuration_file_becomes_function_yaml(self, staged, write, folder):
        gpu = write("function-gpu.yaml", (folder / "function.yaml").read_text() + "# gpu\n")
        copy = staged(config_file=gpu)
        assert (copy / "function.yaml").read_text().endswith("# gpu\n")
        assert (copy / "function-gpu.yaml").is_file()

    def test_the_other_suffix(self, staged, folder):
        (folder / "function.yaml").rename(folder / "function.yml")
        copy = staged()
        assert names(copy) == ["function.yaml", "function.yml", "main.py"]

    def test_a_file_elsewhere(self, staged, tmp_path, folder):
        other = tmp_path / "elsewhere.yaml"
        (folder / "function.yaml").rename(other)
        copy = staged(config_file=other)
        assert (copy / "function.yaml").read_bytes() == other.read_bytes()

    def test_a_single_source_file_is_copied_alone(self, staged, write, folder):
        source = write(
            "single.py",
            "# @nuclio.configure\n#\n# function.yaml:\n#   metadata:\n#     name: single\n"
            "#     annotations:\n#       type: detector\n#   spec:\n#     runtime: python:3.11\n"
            "\ndef handler(context, event):\n    return 'ok'\n",
        )
        copy = staged(path=source)
        assert names(copy) == ["function.yaml", "single.py"]
        written = yaml.safe_load((copy / "function.yaml").read_text())
        assert written["metadata"]["annotations"] == {"type": "detector"}
        assert written["spec"]["handler"] == "single:handler"

    def test_inline_source(self, staged, folder):
        code = base64.b64encode(b"def handler(context, event):\r\n    return 1\r\n").decode()
        overrides = Function(
            spec=Spec(handler="deep.er:handler", build=Build(function_source_code=code))
        )
        copy = staged(overrides=overrides)
        assert names(copy) == ["deep", "deep/er.py", "function.yaml"]
        assert (copy / "deep/er.py").read_bytes() == b"def handler(context, event):\n    return 1\n"

    @pytest.mark.parametrize("code", ["not base64!", "YQ=", "ä"])
    def test_inline_source_that_is_not_base64(self, folder, tmp_path, code):
        function = Function(spec=Spec(build=Build(function_source_code=code)))
        with pytest.raises(BuildError, match="functionSourceCode is not base64"):
            stage(unchecked_function(function, folder), tmp_path / "copy")

    @pytest.mark.parametrize("handler", ["../../etc/x:handler", "/tmp/x:handler", "a..b:handler"])
    def test_a_module_name_stays_inside_the_folder(self, folder, tmp_path, handler):
        build = Build(function_source_code="YQ==")
        function = Function(spec=Spec(handler=handler, build=build))
        with pytest.raises(BuildError, match="cannot be the name of a Python module"):
            stage(unchecked_function(function, folder), tmp_path / "copy")


class TestLinks:
    def test_links_inside_the_folder_stay_relative(self, staged, write, folder):
        write("data/real.txt", "real")
        (folder / "data/near").symlink_to("real.txt")
        (folder / "absolute").symlink_to(folder / "data/real.txt")
        (folder / "chain").symlink_to("absolute")
        (folder / "dir").symlink_to("data")
        (folder / "dangling").symlink_to("data/later.txt")
        (folder / "roundabout").symlink_to(f"../{folder.name}/data/real.txt")
        copy = staged()
        targets = {path.name: os.readlink(path) for path in copy.rglob("*") if path.is_symlink()}
        assert targets == {
            "near": "real.txt",
            "absolute": "data/real.txt",
            "chain": "absolute",
            "dir": "data",
            "dangling": "data/later.txt",
            "roundabout": "data/real.txt",
        }
        shutil.rmtree(folder)
        assert (copy / "chain").read_text() == "real"

    @pytest.mark.parametrize("target", ["/etc/passwd", "../outside.txt", "sub/../../outside.txt"])
    def test_links_outside_the_folder_are_refused(self, loaded, folder, tmp_path, target):
        (folder / "sub").mkdir()
        (tmp_path / "outside.txt").write_text("secret")
        (folder / "leak").symlink_to(target)
        with pytest.raises(BuildError) as caught:
            stage(loaded(), tmp_path / "out" / "code")
        assert str(caught.value) == (
            f"the link leak leads out of the function's folder, to {target}"
        )
        assert not (tmp_path / "out").exists()

    def test_a_link_that_leads_outside_through_another(self, loaded, folder, tmp_path):
        (tmp_path / "outside").mkdir()
        (folder / "door").symlink_to(tmp_path / "outside")
        (folder / "a").symlink_to("door/file")
        with pytest.raises(BuildError, match="leads out of the function's folder"):
            code_digest(loaded())

    def test_a_folder_whose_name_has_the_same_prefix(self, loaded, folder, tmp_path):
        (tmp_path / "face-2").mkdir()
        (folder / "sibling").symlink_to("../face-2")
        with pytest.raises(BuildError, match="link sibling leads out"):
            code_digest(loaded())

    def test_a_loop(self, staged, folder):
        (folder / "one").symlink_to("two")
        (folder / "two").symlink_to("one")
        assert os.readlink(staged() / "one") == "two"


class TestErrors:
    def test_special_files_are_reported_and_left_out(self, loaded, folder, tmp_path, monkeypatch):
        os.mkfifo(folder / "pipe")
        monkeypatch.chdir(folder)  # the name of a socket may not be long
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind("sock")
        artifact = stage(loaded(), tmp_path / "copy")
        assert sorted(artifact.warnings) == [
            "pipe is a named pipe; it is not copied",
            "sock is a socket; it is not copied",
        ]
        assert names(tmp_path / "copy") == ["function.yaml", "main.py"]

    def test_an_existing_destination_is_an_error(self, loaded, tmp_path):
        (tmp_path / "copy").mkdir()
        with pytest.raises(ConflictError, match="exists already"):
            stage(loaded(), tmp_path / "copy")

    def test_a_full_disk_leaves_nothing(self, loaded, write, tiny_disk):
        write("model.bin", os.urandom(3 << 20))
        with pytest.raises(BuildError, match=r"no space left in .* while copying model\.bin") as e:
            stage(loaded(), tiny_disk / "revisions" / "code")
        assert "FNBUILD_DATA_DIR" in e.value.hint
        assert names(tiny_disk) == ["revisions"]

    @pytest.mark.parametrize("name", ["secret.bin", "secret"])
    def test_an_unreadable_file_is_reported(self, loaded, write, unprivileged, name):
        path = write("secret.bin") if name == "secret.bin" else write("secret/x").parent
        path.chmod(0o000)
        read = loaded()
        with unprivileged() as place, pytest.raises(BuildError) as caught:
            stage(read, place / "code")
        path.chmod(0o755)
        assert str(caught.value) in (
            f"cannot read {name}: Permission denied",
            f"cannot copy {name}: Permission denied",
        )

    def test_folders_that_are_nested_too_deep(self, loaded, folder, tmp_path):
        deep = folder / ("d/" * 1900)
        os.makedirs(folder / "d")
        here = os.open(folder / "d", os.O_RDONLY)
        for _ in range(1899):
            os.mkdir("d", dir_fd=here)
            below = os.open("d", os.O_RDONLY, dir_fd=here)
            os.close(here)
            here = below
        os.close(here)
        try:
            with pytest.raises(BuildError, match="more than 100 folders deep") as failure:
                stage(loaded(folder), tmp_path / "copy")
        finally:
            trees.remove(folder / "d")  # pytest itself would recurse
        assert "move it out" in failure.value.hint
        assert len(str(deep)) > 3800
        assert not (tmp_path / "copy").exists()

    def test_cleanup_continues_after_a_failed_removal(self, tmp_path, monkeypatch):
        gone = subprocess.run(
            [sys.executable, "-c", "import os; print(os.getpid())"],
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for name in (f"{gone}-a", f"{gone}-b", f"{gone}-c", f"{'9' * 40}-d"):
            (tmp_path / name).mkdir()
        remove = trees.remove

        def fail_for_b(path):
            if path.name.endswith("-b"):
                raise PermissionError(1, "Operation not permitted")
            remove(path)

        monkeypatch.setattr(trees, "remove", fail_for_b)
        remove_abandoned_copies(tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == [f"{gone}-b"]

    def test_remains_of_killed_processes_are_removed(self, loaded, tmp_path):
        dead = subprocess.Popen([sys.executable, "-c", ""])
        dead.wait()
        parent = tmp_path / "out"
        (parent / f".staging-{dead.pid}-abcd").mkdir(parents=True)
        (parent / f".staging-{os.getpid()}-abcd").mkdir()
        stage(loaded(), parent / "code")
        assert [path.name for path in parent.glob(".*")] == [f".staging-{os.getpid()}-abcd"]

    def test_progress_of_many_files(self, loaded, folder, tmp_path):
        for number in range(1998):
            (folder / f"{number}.txt").touch()
        messages = []
        stage(loaded(), tmp_path / "copy", messages.append)
        assert messages == ["copied 1000 of 2000 files", "copied 2000 of 2000 files"]


class TestDigest:
    def test_is_that_of_the_copy(self, loaded, write, folder, tmp_path):
        write("b/c.py", "x")
        (folder / "link").symlink_to("b")
        before = code_digest(loaded())
        assert len(before) == 64
        assert stage(loaded(), tmp_path / "copy").digest == before

    def test_is_independent_of_the_folder(self, loaded, folder, tmp_path):
        shutil.copytree(folder, tmp_path / "again")
        assert code_digest(loaded()) == code_digest(loaded(tmp_path / "again"))

    @pytest.mark.parametrize("change", ["content", "name", "mode", "link", "folder", "config"])
    def test_depends_on_every_change(self, loaded, write, folder, change):
        file = write("a.txt", "one")
        (folder / "link").symlink_to("a.txt")
        before = code_digest(loaded())
        if change == "content":
            file.write_text("two")
        elif change == "name":
            file.rename(folder / "b.txt")
        elif change == "mode":
            file.chmod(0o755)
        elif change == "link":
            (folder / "link").unlink()
            (folder / "link").symlink_to("main.py")
        elif change == "folder":
            (folder / "new").mkdir()
        else:
            write("function.yaml", (folder / "function.yaml").read_text() + "# more\n")
        assert code_digest(loaded()) != before

    def test_ignores_byte_code_and_times(self, loaded, write, folder):
        before = code_digest(loaded())
        write("__pycache__/main.pyc", "x")
        os.utime(folder / "main.py", (1, 1))
        assert code_digest(loaded()) == before

    def test_is_unchanged_by_later_edits(self, staged, folder):
        copy = staged()
        (folder / "main.py").write_text("changed")
        (folder / "function.yaml").write_text("changed")
        assert "changed" not in (copy / "main.py").read_text()
        assert "changed" not in (copy / "function.yaml").read_text()
