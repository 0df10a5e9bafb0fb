"""The data directory: its location, its permissions and its locks."""

import os
import stat
import subprocess
import sys
import threading

import pytest

from fnbuild.datadir import (
    data_dir,
    function_dir,
    function_lock,
    hold_lock,
    other_holder,
    revision_dir,
)
from fnbuild.errors import ConflictError, StoreError, UsageError
from fnbuild.store import Store


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    return folder


class TestDataDirectory:
    def test_the_variable_decides(self, data):
        assert data_dir() == data

    def test_xdg_then_home(self, tmp_path, monkeypatch):
        monkeypatch.delenv("FNBUILD_DATA_DIR")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        assert data_dir() == tmp_path / "xdg/fnbuild"
        monkeypatch.setenv("XDG_DATA_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert data_dir() == tmp_path / ".local/share/fnbuild"

    def test_it_is_for_its_owner_alone(self, data):
        with Store.open() as store:
            store.record("me", "deploy", "face", "done")
            files = list(data.glob("fnbuild.db*"))
            assert len(files) == 3
            modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert modes == {0o600}

    def test_a_directory_that_was_there_keeps_its_mode(self, data):
        data.mkdir(mode=0o755)
        Store.open().close()
        assert stat.S_IMODE(data.stat().st_mode) == 0o755

    def test_a_file_in_its_place(self, data):
        data.write_text("not a directory")
        with pytest.raises(StoreError, match="cannot create the directory"):
            Store.open()

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 201])
    def test_names_that_are_no_folder(self, name):
        with pytest.raises(UsageError, match="cannot be a function name"):
            function_dir("nuclio", name)
        with pytest.raises(UsageError, match="cannot be a namespace"):
            function_dir(name, "face")

    def test_layout(self, data):
        assert revision_dir("nuclio", "pth.sam_B", 3) == (
            data / "functions/nuclio/pth.sam_B/revisions/3"
        )


HOLD = """
import sys
from fnbuild.datadir import function_lock
with function_lock("nuclio", "face-haar", "deployed"):
    print("held", flush=True)
    sys.stdin.read()
"""


def holding() -> subprocess.Popen:
    """Another process that holds the lock until its standard input ends."""
    command = [sys.executable, "-c", HOLD]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestLock:
    def test_the_second_is_told_who_holds_it(self):
        holder = holding()
        assert holder.stdout.readline() == "held\n"
        told = rf"face-haar is being deployed by process {holder.pid} \(since \d\d:\d\d:\d\d\)"
        with (
            pytest.raises(ConflictError, match=told),
            function_lock("nuclio", "face-haar", "deleted"),
        ):
            pass
        with (
            function_lock("nuclio", "other", "deployed"),
            function_lock("else", "face-haar", "deployed"),
        ):
            pass
        holder.communicate("")
        with function_lock("nuclio", "face-haar", "deleted"):
            pass

    def test_death_gives_it_back(self):
        holder = holding()
        holder.stdout.readline()
        holder.kill()
        holder.communicate()
        with function_lock("nuclio", "face-haar", "deleted"):
            pass

    def test_others_can_be_told_of_it(self):
        assert other_holder("nuclio", "face-haar") is None
        with function_lock("nuclio", "face-haar", "deployed"):
            assert other_holder("nuclio", "face-haar") is None  # it is this process
        holder = holding()
        holder.stdout.readline()
        found = other_holder("nuclio", "face-haar")
        assert (found.pid, found.what) == (holder.pid, "deployed")
        holder.kill()
        holder.communicate()
        assert other_holder("nuclio", "face-haar") is None

    def test_an_error_gives_it_back(self):
        with pytest.raises(RuntimeError), function_lock("nuclio", "face", "deployed"):
            raise RuntimeError
        with function_lock("nuclio", "face", "deployed"):
            pass

    def test_two_threads_of_one_process(self):
        with (
            function_lock("nuclio", "face", "rolled back"),
            pytest.raises(ConflictError, match="is being rolled back by process"),
            function_lock("nuclio", "face", "deployed"),
        ):
            pass

    def test_the_file_stays_and_names_nobody(self):
        with function_lock("nuclio", "face", "deployed"):
            pass
        assert (function_dir("nuclio", "face") / "lock").read_text() == ""

    def test_who_waited_for_a_removed_file_holds_the_new_one(self, tmp_path):
        path = tmp_path / "locks" / "one"
        waiting, held, done = threading.Event(), threading.Event(), threading.Event()

        def wait():
            with hold_lock(path, "made", lambda holder: waiting.set()):
                held.set()
                done.wait(30)

        thread = threading.Thread(target=wait)
        with hold_lock(path, "made", lambda holder: None):
            thread.start()
            assert waiting.wait(30)
            path.unlink()
        assert held.wait(30)
        told = []

        def refuse(holder):
            told.append(holder)
            raise InterruptedError

        with pytest.raises(InterruptedError), hold_lock(path, "made", refuse):
            pass
        done.set()
        thread.join()
        assert told[0].pid == os.getpid()
