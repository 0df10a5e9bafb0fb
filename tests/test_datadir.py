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
    def test_the_environment_variable_takes_precedence(self, data):
        assert data_dir() == data

    def test_xdg_takes_precedence_over_home(self, tmp_path, monkeypatch):
        monkeypatch.delenv("FNBUILD_DATA_DIR")
        monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "xdg"))
        assert data_dir() == tmp_path / "xdg/fnbuild"
        monkeypatch.setenv("XDG_DATA_HOME", "relative")
        monkeypatch.setenv("HOME", str(tmp_path))
        assert data_dir() == tmp_path / ".local/share/fnbuild"

    def test_it_is_private_to_its_owner(self, data):
        with Store.open() as store:
            store.add_audit_entry("me", "deploy", "face", "done")
            files = list(data.glob("fnbuild.db*"))
            assert len(files) == 3
            modes = {stat.S_IMODE(file.stat().st_mode) for file in files}
        assert stat.S_IMODE(data.stat().st_mode) == 0o700
        assert modes == {0o600}

    def test_an_existing_directory_keeps_its_mode(self, data):
        data.mkdir(mode=0o755)
        Store.open().close()
        assert stat.S_IMODE(data.stat().st_mode) == 0o755

    def test_a_file_at_its_path_is_an_error(self, data):
        data.write_text("not a directory")
        with pytest.raises(StoreError, match="cannot create the directory"):
            Store.open()

    @pytest.mark.parametrize("name", ["", ".", "..", "a/b", "a\0b", "x" * 201])
    def test_invalid_folder_names_are_refused(self, name):
        with pytest.raises(UsageError, match="cannot be a function name"):
            function_dir("nuclio", name)
        with pytest.raises(UsageError, match="cannot be a namespace"):
            function_dir(name, "face")

    def test_the_path_of_a_revision(self, data):
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


def start_holder() -> subprocess.Popen:
    """Start another process that holds the lock until its standard input ends."""
    command = [sys.executable, "-c", HOLD]
    return subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)


class TestLock:
    def test_a_second_lock_is_refused_with_its_holder(self):
        holder = start_holder()
        assert holder.stdout.readline() == "held\n"
        message = rf"face-haar is being deployed by process {holder.pid} \(since \d\d:\d\d:\d\d\)"
        with (
            pytest.raises(ConflictError, match=message),
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

    def test_the_end_of_the_holder_releases_the_lock(self):
        holder = start_holder()
        holder.stdout.readline()
        holder.kill()
        holder.communicate()
        with function_lock("nuclio", "face-haar", "deleted"):
            pass

    def test_the_holder_is_visible_to_others(self):
        assert other_holder("nuclio", "face-haar") is None
        with function_lock("nuclio", "face-haar", "deployed"):
            assert other_holder("nuclio", "face-haar") is None  # it is this process
        holder = start_holder()
        holder.stdout.readline()
        visible_holder = other_holder("nuclio", "face-haar")
        assert (visible_holder.pid, visible_holder.what) == (holder.pid, "deployed")
        holder.kill()
        holder.communicate()
        assert other_holder("nuclio", "face-haar") is None

    def test_an_error_releases_the_lock(self):
        with pytest.raises(RuntimeError), function_lock("nuclio", "face", "deployed"):
            raise RuntimeError
        with function_lock("nuclio", "face", "deployed"):
            pass

    def test_threads_of_one_process_exclude_each_other(self):
        with (
            function_lock("nuclio", "face", "rolled back"),
            pytest.raises(ConflictError, match="is being rolled back by process"),
            function_lock("nuclio", "face", "deployed"),
        ):
            pass

    def test_the_released_lock_file_is_empty(self):
        with function_lock("nuclio", "face", "deployed"):
            pass
        assert (function_dir("nuclio", "face") / "lock").read_text() == ""

    def test_a_waiter_for_a_removed_file_locks_the_new_one(self, tmp_path):
        path = tmp_path / "locks" / "one"
        waiting, held, finished = threading.Event(), threading.Event(), threading.Event()

        def wait():
            with hold_lock(path, "made", lambda holder: waiting.set()):
                held.set()
                finished.wait(30)

        thread = threading.Thread(target=wait)
        with hold_lock(path, "made", lambda holder: None):
            thread.start()
            assert waiting.wait(30)
            path.unlink()
        assert held.wait(30)
        holders = []

        def refuse(holder):
            holders.append(holder)
            raise InterruptedError

        with pytest.raises(InterruptedError), hold_lock(path, "made", refuse):
            pass
        finished.set()
        thread.join()
        assert holders[0].pid == os.getpid()
