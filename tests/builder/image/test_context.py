"""The build context: its files, and its independence of machine and time."""

import json
import os
import stat
import tarfile
from dataclasses import replace

import pytest

from fnbuild.builder.image import context
from fnbuild.builder.image.probe import UNPROBED_IMAGE, ImageFolders
from fnbuild.builder.image.runtime_tree import FILE_TIMESTAMP
from fnbuild.builder.staging import stage
from fnbuild.errors import BuildError, InputError

pytestmark = pytest.mark.system

BIG = b"w" * context.LARGE_FILE_BYTES
HOME = "opt/nuclio/"
PARENTS = {"opt", "opt/nuclio"}
CONFIG = "etc/nuclio/config/processor/processor.json"
COPIES = """\
metadata: {name: face}
spec:
  handler: main:handler
  runtime: python:3.11
  build:
    directives:
      preCopy:
        - {kind: COPY, value: handler/main.py /}
"""


@pytest.fixture
def lay_out(loaded, tmp_path):
    """Stage the folder, and create the context in a new folder."""

    def lay_out(name="context", config=None, probed=UNPROBED_IMAGE):
        loaded_function = loaded()
        folder, code = tmp_path / name, tmp_path / f"{name}-code"
        stage(loaded_function, code)
        folder.mkdir()
        build_context = context.BuildContext(folder, loaded_function.function, code)
        build_context.write_archives(config or {"handler": "main:handler"}, probed)
        return folder, build_context

    return lay_out


def packed(folder, name):
    """Return the entries of an archive by their paths."""
    with tarfile.open(folder / f"artifacts/{name}.tar", errors="surrogateescape") as archive:
        return {entry.name: entry for entry in archive}


def names(folder, name="code"):
    """Return the paths of an archive below the function's folder."""
    return {path.removeprefix(HOME) for path in packed(folder, name)} - PARENTS


def content(folder, name, path):
    with tarfile.open(folder / f"artifacts/{name}.tar", errors="surrogateescape") as archive:
        return archive.extractfile(path).read()


def snapshot(folder):
    return {path.name: path.read_bytes() for path in (folder / "artifacts").iterdir()}


class TestCode:
    def test_has_its_path_in_the_image(self, lay_out, write, folder):
        write("sub/model.py", "x = 1\n")
        (folder / "empty").mkdir()
        directory, _ = lay_out()
        assert names(directory) == {"function.yaml", "main.py", "sub", "sub/model.py", "empty"}
        assert set(packed(directory, "code")) >= PARENTS
        assert content(directory, "code", f"{HOME}sub/model.py") == b"x = 1\n"

    def test_is_the_same_in_every_image(self, lay_out, write, folder, tmp_path):
        write("run.sh", "#!/bin/sh\n", 0o700)
        write("secret.txt", "a", 0o600)
        (folder / "link").symlink_to("run.sh")
        first, _ = lay_out("first")
        (folder / "run.sh").chmod(0o755)
        os.utime(folder / "secret.txt", (1, 1))
        mask = os.umask(0o077)
        try:
            second, _ = lay_out("second")
        finally:
            os.umask(mask)
        assert snapshot(first) == snapshot(second)
        entries = packed(first, "code")
        assert {f"{entries[f'{HOME}{name}'].mode:o}" for name in ("run.sh",)} == {"755"}
        assert entries[f"{HOME}secret.txt"].mode == 0o644
        about = {
            (entry.uid, entry.gid, entry.uname, entry.gname, entry.mtime)
            for entry in entries.values()
        }
        assert about == {(0, 0, "", "", FILE_TIMESTAMP)}

    def test_links_and_odd_names_survive(self, lay_out, write, folder):
        odd = ["with space", "ü", "new\nline", "-dash", "#hash", "quo'te\"", os.fsdecode(b"\xff")]
        odd += ["long" * 50]
        for name in odd:
            write(f"odd/{name}", name.encode("utf-8", "surrogateescape"))
        (folder / "link").symlink_to("odd/ü")
        (folder / "folder link").symlink_to("odd")
        directory, _ = lay_out()
        assert {f"odd/{name}" for name in odd} <= names(directory)
        entries = packed(directory, "code")
        assert entries[f"{HOME}link"].linkname == "odd/ü"
        assert entries[f"{HOME}folder link"].linkname == "odd"

    @pytest.mark.parametrize("path", [".wh.model.py", "sub/.wh..wh..opq", ".wh.sub/model.py"])
    def test_a_whiteout_name_is_refused(self, lay_out, write, path):
        write(path, "x = 1\n")
        with pytest.raises(BuildError) as caught:
            lay_out()
        assert caught.value.message.startswith(f"{path.removesuffix('/model.py')} cannot be in")
        write(".dockerignore", "**/.wh.*\n")
        directory, _ = lay_out("again")
        assert not any(".wh." in name for name in names(directory))


class TestLargeFiles:
    def test_have_an_archive_of_their_own(self, lay_out, write):
        write("weights/a.pt", BIG)
        write("weights/small.pt", BIG[1:])
        write("tool", BIG, 0o755)
        directory, about = lay_out()
        assert about.has_large_files
        assert names(directory, "large") == {"weights", "weights/a.pt", "tool"}
        assert {"weights", "weights/small.pt"} <= names(directory)
        assert names(directory).isdisjoint({"weights/a.pt", "tool"})
        assert packed(directory, "large")[f"{HOME}tool"].mode == 0o755
        assert content(directory, "large", f"{HOME}weights/a.pt") == BIG

    def test_are_absent(self, lay_out):
        directory, about = lay_out()
        assert not about.has_large_files
        assert not (directory / "artifacts/large.tar").exists()


class TestHandler:
    @pytest.fixture
    def named(self, write, folder):
        write("function.yaml", COPIES)
        write("weights/a.pt", BIG)
        write("run.sh", "#!/bin/sh\n", 0o700)
        write(".dockerignore", "data/*\n!data/keep")
        write("data/keep")
        write("data/drop")
        (folder / "empty").mkdir()
        (folder / "link").symlink_to("main.py")

    def test_is_present_for_directives_that_copy_from_it(self, lay_out, named, tmp_path):
        mask = os.umask(0o077)
        try:
            directory, _ = lay_out()
        finally:
            os.umask(mask)
        handler = directory / "handler"
        paths = {str(path.relative_to(handler)) for path in handler.rglob("*")}
        assert paths == names(directory) | names(directory, "large")
        assert os.readlink(handler / "link") == "main.py"
        modes = {path.stat().st_mode for path in (handler, *handler.rglob("*")) if path.is_dir()}
        assert {stat.S_IMODE(mode) for mode in modes} == {0o755}
        assert stat.S_IMODE((handler / "main.py").stat().st_mode) == 0o644
        assert stat.S_IMODE((handler / "run.sh").stat().st_mode) == 0o755
        staged = tmp_path / "context-code/weights/a.pt"
        assert (handler / "weights/a.pt").samefile(staged)

    def test_is_copied_if_hard_links_fail(self, lay_out, named, monkeypatch):
        def refuse(*args, **options):
            raise OSError(18, "Invalid cross-device link")

        monkeypatch.setattr(os, "link", refuse)
        directory, _ = lay_out()
        assert (directory / "handler/weights/a.pt").read_bytes() == BIG

    def test_is_left_out_if_no_directive_needs_it(self, lay_out):
        assert not (lay_out()[0] / "handler").exists()


class TestSecrets:
    SECRET = COPIES + "  triggers: {web: {kind: http, password: s3cret}}  # a remark\n"
    BLANK = SECRET.replace("s3cret", '""')

    def test_of_configurations_are_in_no_copy(self, lay_out, write, tmp_path):
        for name in ("function.yaml", "function-gpu.yml", "sub/function.yaml"):
            write(name, self.SECRET)
        directory, _ = lay_out()
        for name, expected in {
            "function.yaml": self.BLANK,
            "function-gpu.yml": self.BLANK,
            # It belongs to another function, or to none.
            "sub/function.yaml": self.SECRET,
        }.items():
            assert content(directory, "code", HOME + name).decode() == expected
            assert (directory / "handler" / name).read_text() == expected
        assert (tmp_path / "context-code/function.yaml").read_text() == self.SECRET

    def test_other_files_are_unchanged(self, lay_out, write):
        text = COPIES + "  triggers: {web: {kind: http, password: ''}}   \r\n\r\n"
        write("function.yaml", text)
        write("labels.yaml", "- [")
        directory, _ = lay_out()
        assert content(directory, "code", f"{HOME}function.yaml").decode() == text
        assert content(directory, "code", f"{HOME}labels.yaml") == b"- ["


class TestIgnored:
    def test_files_in_the_functions_dockerignore(self, lay_out, write):
        write(".dockerignore", "data\n*.md\n!keep.md\n**/*.tmp\n")
        for name in ("data/a", "data/b/c", "a.md", "keep.md", "x/y.tmp", "x/z"):
            write(name)
        directory, about = lay_out()
        assert names(directory) == {
            *(".dockerignore", "function.yaml", "keep.md", "main.py", "x", "x/z")
        }
        assert about.warnings == []

    def test_large_files_too(self, lay_out, write):
        write(".dockerignore", "data")
        write("data/a", BIG)
        directory, about = lay_out()
        assert not about.has_large_files
        assert "data/a" not in names(directory)

    def test_not_files_that_the_function_needs(self, lay_out, write):
        write(".dockerignore", "*\n!.dockerignore")
        directory, about = lay_out()
        assert names(directory) == {".dockerignore", "function.yaml", "main.py"}
        assert about.warnings == [
            f".dockerignore leaves out {name}, which the function needs; it is copied"
            for name in ("function.yaml", "main.py")
        ]

    def test_an_unreadable_dockerignore_is_an_error(self, lay_out, write):
        write(".dockerignore", "ok\n[a\n")
        with pytest.raises(InputError, match=r"\.dockerignore:2: '\[a' is not a valid pattern"):
            lay_out()


class TestRequirements:
    def test_with_the_files_that_they_include(self, lay_out, write):
        write("requirements.txt", "-r more/base.txt\n-c bounds.txt\n./own\n")
        write("more/base.txt", "numpy\n")
        write("bounds.txt", "numpy<3\n")
        write("own/setup.py", "from setuptools import setup; setup(name='own')\n")
        assert names(lay_out()[0], "requirements") == {
            *("requirements.txt", "more", "more/base.txt", "bounds.txt", "own", "own/setup.py")
        }

    def test_that_install_the_folder_itself(self, lay_out, write):
        write("requirements.txt", "-e .\n")
        write("setup.py", "from setuptools import setup; setup(name='own')\n")
        directory, _ = lay_out()
        assert names(directory, "requirements") == names(directory)

    def test_alone_if_included_files_are_missing(self, lay_out, write):
        write("requirements.txt", "-r gone.txt\n")
        assert names(lay_out()[0], "requirements") == {"requirements.txt"}

    def test_without_requirements(self, lay_out):
        assert not (lay_out()[0] / "artifacts/requirements.tar").exists()


def test_the_configuration(lay_out):
    directory, _ = lay_out(config={"b": 1, "a": {"d": "ü", "c": None}})
    assert json.loads(content(directory, "config", CONFIG)) == {"a": {"c": None, "d": "ü"}, "b": 1}
    assert packed(directory, "config")[CONFIG].mode == 0o644
    # A second copy where no volume of Nuclio hides it.
    spare = content(directory, "config", "opt/fnbuild/processor.json")
    assert spare == content(directory, "config", CONFIG)
    other, _ = lay_out("other", config={"a": {"c": None, "d": "ü"}, "b": 1})
    assert snapshot(directory) == snapshot(other)


def test_the_runtime(lay_out):
    directory, about = lay_out()
    entries = packed(directory, "runtime")
    program = entries["usr/local/bin/processor"]
    assert {"opt/fnbuild/fnbuild/runtime/container.py", "opt/fnbuild/sdk"} <= {*entries}
    assert {name.partition("/")[0] for name in entries} == {"opt", "usr"}
    assert program.mode == 0o755
    before = snapshot(directory)
    about.write_archives({"handler": "main:handler"}, UNPROBED_IMAGE)
    assert snapshot(directory) == before


def test_existing_folders_of_the_image_are_unchanged(lay_out):
    owners = {"/opt": (0, 50, 0o2775), "/data/nuclio": (1000, 1001, 0o700), "/data": (2, 3, 0o711)}
    there = ImageFolders({"/opt/nuclio": "/data/nuclio"}, owners)
    directory, _ = lay_out(probed=replace(UNPROBED_IMAGE, folders=there))
    code = packed(directory, "code")
    about = {name: (entry.uid, entry.gid, entry.mode) for name, entry in code.items()}
    assert about == {
        "data": (2, 3, 0o711),
        "data/nuclio": (1000, 1001, 0o700),
        "data/nuclio/function.yaml": (0, 0, 0o644),
        "data/nuclio/main.py": (0, 0, 0o644),
    }
    runtime = packed(directory, "runtime")
    assert (runtime["opt"].gid, runtime["opt"].mode) == (50, 0o2775)
    assert (runtime["opt/fnbuild"].gid, runtime["opt/fnbuild"].mode) == (0, 0o755)


def test_a_full_disk_is_reported(lay_out, monkeypatch):
    def refuse(*args, **options):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tarfile.TarFile, "addfile", refuse)
    with pytest.raises(BuildError, match=r"cannot write the build context .*No space left"):
        lay_out()
