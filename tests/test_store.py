"""The store: its tables, its consistency after kills, and its errors."""

import os
import random
import signal
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import pytest

from fnbuild.datadir import revision_dir
from fnbuild.errors import NotFoundError, StoreError
from fnbuild.store import (
    FunctionRow,
    ProjectRow,
    RevisionDraft,
    Store,
    schema,
)

pytestmark = pytest.mark.system

CONFIG = {"metadata": {"name": "face"}, "spec": {"description": "Gesichter, 顔"}}
DRAFT = RevisionDraft("d1g357", CONFIG, "/usr/bin/python3", "/env/bin/python")


@pytest.fixture(autouse=True)
def data(tmp_path, monkeypatch):
    folder = tmp_path / "data"
    monkeypatch.setenv("FNBUILD_DATA_DIR", str(folder))
    return folder


@pytest.fixture
def store(data):
    with Store.open() as store:
        yield store


def run(code: str, *args: str, **options) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", code, *args], stdout=subprocess.PIPE, text=True, **options
    )


class TestProjects:
    def test_projects_are_added_listed_and_deleted(self, store):
        project = ProjectRow("nuclio", "cvat", "what CVAT calls", "ada", {"a": "ä"}, {"b": "1"})
        assert store.add_project(project)
        assert not store.add_project(ProjectRow("nuclio", "cvat", "another"))
        assert store.add_project(ProjectRow("other", "cvat"))
        assert store.projects("nuclio") == [project]
        changed = ProjectRow("nuclio", "cvat", labels={"a": "2"})
        assert store.update_project(changed)
        assert store.projects("nuclio") == [changed]
        assert store.delete_project("nuclio", "cvat")
        assert not store.delete_project("nuclio", "cvat")
        assert store.projects("nuclio") == []


class TestFunctions:
    def test_a_function_is_read_as_it_was_written(self, store):
        row = FunctionRow(
            "nuclio", "face", "cvat", "stopped", 0, 8081, 9091, 9092, "error", "line\nline", CONFIG
        )
        store.put_function(row)
        stored = store.function("nuclio", "face")
        assert stored is not None
        assert stored.updated.endswith("Z")
        assert stored == FunctionRow(
            **{f: getattr(row, f) for f in row.__slots__ if f != "updated"}, updated=stored.updated
        )

    def test_put_replaces_a_function(self, store):
        store.put_function(FunctionRow("nuclio", "face", http_port=1))
        store.put_function(FunctionRow("nuclio", "face", http_port=2))
        assert [row.http_port for row in store.functions("nuclio")] == [2]

    def test_put_keeps_revisions(self, store):
        store.add_revision("nuclio", "face", DRAFT)
        store.put_function(FunctionRow("nuclio", "face"))
        assert len(store.revisions("nuclio", "face")) == 1

    def test_functions_are_listed_by_namespace_and_in_total(self, store):
        for namespace, name in (("b", "two"), ("a", "two"), ("a", "one")):
            store.put_function(FunctionRow(namespace, name))
        assert [row.name for row in store.functions("a")] == ["one", "two"]
        assert [(row.namespace, row.name) for row in store.functions()] == [
            ("a", "one"),
            ("a", "two"),
            ("b", "two"),
        ]
        assert store.function("a", "three") is None

    def test_update_changes_only_the_given_fields(self, store):
        store.put_function(FunctionRow("nuclio", "face", http_port=8081, message="old"))
        row = store.update_function("nuclio", "face", state="ready", message="", config=CONFIG)
        assert (row.state, row.message, row.http_port, row.config) == ("ready", "", 8081, CONFIG)
        assert store.function("nuclio", "face") == row

    def test_update_of_a_missing_function_is_an_error(self, store):
        with pytest.raises(NotFoundError, match="no function face in namespace nuclio"):
            store.update_function("nuclio", "face", state="ready")

    def test_delete_removes_the_revisions(self, store):
        store.add_revision("nuclio", "face", DRAFT)
        assert store.delete_function("nuclio", "face")
        assert not store.delete_function("nuclio", "face")
        assert store.revisions("nuclio", "face") == []
        assert store.add_revision("nuclio", "face", DRAFT).number == 1


class TestRevisions:
    def test_a_new_revision_is_failed_until_it_is_active(self, store):
        assert store.next_revision_number("nuclio", "face") == 1
        revision = store.add_revision("nuclio", "face", DRAFT)
        assert (revision.number, revision.state) == (1, "failed")
        assert "before the revision was ready" in revision.message
        assert revision.code == revision_dir("nuclio", "face", 1) / "code"
        assert (revision.config, revision.digest) == (CONFIG, "d1g357")
        function = store.function("nuclio", "face")
        assert function is not None
        assert (function.state, function.revision) == ("building", 0)

    def test_activate_supersedes_the_previous_revision(self, store):
        store.add_revision("nuclio", "face", DRAFT)
        store.activate_revision("nuclio", "face", 1)
        store.add_revision("nuclio", "face", RevisionDraft("x", {}, "p", code="/elsewhere"))
        function = store.activate_revision("nuclio", "face", 2, state="ready", http_port=8081)
        assert (function.revision, function.state, function.http_port) == (2, "ready", 8081)
        newest, oldest = store.revisions("nuclio", "face")
        assert (newest.number, newest.state, newest.message) == (2, "active", "")
        assert (oldest.number, oldest.state) == (1, "superseded")
        assert newest.code == Path("/elsewhere")

    def test_an_old_revision_is_activated_again(self, store):
        for number in (1, 2):
            store.add_revision("nuclio", "face", DRAFT)
            store.activate_revision("nuclio", "face", number)
        store.activate_revision("nuclio", "face", 1)
        states = [revision.state for revision in store.revisions("nuclio", "face")]
        assert states == ["superseded", "active"]

    def test_activating_a_missing_revision_changes_nothing(self, store):
        store.add_revision("nuclio", "face", DRAFT)
        store.activate_revision("nuclio", "face", 1)
        with pytest.raises(NotFoundError, match="face has no revision 7"):
            store.activate_revision("nuclio", "face", 7)
        assert store.revision("nuclio", "face", 1).state == "active"

    def test_fail_keeps_the_reason(self, store):
        store.add_revision("nuclio", "face", DRAFT)
        store.fail_revision("nuclio", "face", 1, "ImportError: torch")
        revision = store.revision("nuclio", "face", 1)
        assert (revision.state, revision.message) == ("failed", "ImportError: torch")

    def test_prune_keeps_the_newest_and_the_active_revision(self, store):
        for _ in range(5):
            store.add_revision("nuclio", "face", DRAFT)
        store.activate_revision("nuclio", "face", 1)
        pruned = store.prune_revisions("nuclio", "face", keep=2)
        assert [row.number for row in pruned] == [3, 2]
        assert [row.number for row in store.revisions("nuclio", "face")] == [5, 4, 1]
        assert store.next_revision_number("nuclio", "face") == 6


def test_audit_returns_the_newest_entries_first(store):
    for target in ("one", "two", "three"):
        store.add_audit_entry("ada", "deploy", target, "done")
    assert [row.target for row in store.audit(2)] == ["three", "two"]
    assert store.audit()[0].actor == "ada"


ADD = """
import sys
from fnbuild.store import Store, RevisionDraft
with Store.open() as store:
    for _ in range(20):
        store.add_revision("nuclio", "face", RevisionDraft("d", {}, "p"))
"""


OPEN = """
import sys, time
from pathlib import Path
from fnbuild.store import Store
began, *folders = sys.argv[1:]
for number, folder in enumerate(folders):
    time.sleep(max(0.0, float(began) + number * 0.05 - time.monotonic()))
    Store(Path(folder, "fnbuild.db")).close()
"""


class TestConcurrency:
    def test_processes_create_the_database_concurrently(self, tmp_path):
        folders = [str(tmp_path / str(number)) for number in range(60)]
        started = str(time.monotonic() + 2)
        workers = [run(OPEN, started, *folders) for _ in range(6)]
        assert [worker.wait(180) for worker in workers] == [0] * 6
        for worker in workers:
            worker.stdout.close()

    def test_processes_add_revisions_concurrently(self, data):
        workers = [run(ADD) for _ in range(4)]
        assert [worker.wait(180) for worker in workers] == [0, 0, 0, 0]
        for worker in workers:
            worker.stdout.close()
        with Store.open() as store:
            numbers = [row.number for row in store.revisions("nuclio", "face")]
        assert numbers == list(range(80, 0, -1))

    def test_threads_share_one_store(self, store):
        def add():
            for _ in range(25):
                store.add_revision("nuclio", "face", DRAFT)

        threads = [threading.Thread(target=add) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert store.next_revision_number("nuclio", "face") == 101


WRITE = """
import sys
from fnbuild.store import Store, RevisionDraft, FunctionRow
with Store.open() as store:
    while True:
        row = store.add_revision("nuclio", "face", RevisionDraft("d", {"k": "v" * 3000}, "p"))
        number = row.number
        store.activate_revision("nuclio", "face", number, state="ready", message=str(number))
        print(row.number, flush=True)
"""


def test_a_killed_writer_does_not_damage_the_database(data):
    chance = random.Random(20)
    for _ in range(20):
        writer = run(WRITE)
        reported = int(writer.stdout.readline())
        time.sleep(chance.uniform(0, 0.03))
        writer.send_signal(signal.SIGKILL)
        rest = writer.stdout.read()
        reported = max([reported, *(int(line) for line in rest.splitlines())])
        writer.stdout.close()
        writer.wait()
        with Store.open() as store:
            revisions = store.revisions("nuclio", "face")
            active = [row.number for row in revisions if row.state == "active"]
            function = store.function("nuclio", "face")
        # Reported steps are complete, and incomplete ones are not visible.
        assert [row.number for row in revisions] == list(range(len(revisions), 0, -1))
        assert reported <= len(revisions) <= reported + 1
        assert active == [function.revision]
        assert function.message == str(function.revision)
        assert function.revision >= reported
        connection = sqlite3.connect(data / "fnbuild.db")
        assert connection.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
        connection.close()


def test_closing_a_second_store_keeps_the_locks_of_the_first(store):
    """Closing any descriptor of a file drops the locks that its process has on it."""
    Store.open().close()
    code = (
        "from fnbuild.store import FunctionRow, Store\n"
        "with Store.open() as store:\n"
        "    print(*(row.name for row in store.functions()))\n"
        "    store.put_function(FunctionRow('nuclio', 'theirs'))\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
    store.put_function(FunctionRow("nuclio", "ours"))
    with run(code) as second:
        assert second.communicate()[0].split() == ["ours", "theirs"]


def test_a_database_of_an_older_fnbuild_is_migrated(data, monkeypatch):
    with monkeypatch.context() as older:
        older.setattr(schema, "MIGRATIONS", schema.MIGRATIONS[:1])
        schema.connect(data / "fnbuild.db").close()
    connection = sqlite3.connect(data / "fnbuild.db")
    connection.execute(
        "INSERT INTO functions VALUES"
        " ('nuclio', 'face', 'default', 'running', 1, 0, 0, 'ready', '', '{}', '')"
    )
    connection.execute(
        "INSERT INTO revisions VALUES"
        " ('nuclio', 'face', 1, '', 'active', 'd1g357', '{}', '', '', '', '')"
    )
    connection.execute("INSERT INTO projects VALUES ('nuclio', 'cvat', 'what CVAT calls', 'ada')")
    connection.commit()
    connection.close()
    with Store.open() as store:
        assert store.projects("nuclio") == [ProjectRow("nuclio", "cvat", "what CVAT calls", "ada")]
        first = store.revision("nuclio", "face", 1)
        assert (first.source, first.note) == (1, "")
        second = store.add_revision("nuclio", "face", DRAFT)
        store.record_origin("nuclio", "face", second.number, 1, "rollback to revision 1")
        second = store.revision("nuclio", "face", 2)
        assert (second.source, second.note) == (1, "rollback to revision 1")


class TestErrors:
    def test_a_database_of_a_newer_fnbuild_is_refused(self, store, data):
        store.close()
        connection = sqlite3.connect(data / "fnbuild.db")
        connection.execute("INSERT INTO schema VALUES (99, '2030-01-01')")
        connection.commit()
        connection.close()
        with pytest.raises(
            StoreError, match=r"newer fnbuild \(schema 99; this one supports \d\)"
        ) as e:
            Store.open()
        assert "update this fnbuild" in e.value.hint

    def test_a_file_that_is_no_database_is_reported(self, data):
        data.mkdir()
        file = data / "fnbuild.db"
        file.write_bytes(b"hello, world\n" * 1000)
        with pytest.raises(StoreError, match=r"fnbuild\.db is damaged") as caught:
            Store.open()
        assert "deploy the functions again" in caught.value.hint
        assert file.read_bytes() == b"hello, world\n" * 1000

    def test_a_damaged_database_is_reported(self, store, data):
        for number in range(50):
            store.put_function(FunctionRow("nuclio", f"f{number}", config={"k": "v" * 2000}))
        store.close()
        file = data / "fnbuild.db"
        raw = bytearray(file.read_bytes())
        raw[8192:] = os.urandom(len(raw) - 8192)
        file.write_bytes(raw)
        with pytest.raises(StoreError, match="is damaged"), Store.open() as broken:
            broken.functions()
        assert file.read_bytes() == raw

    def test_an_empty_file_is_a_new_database(self, data):
        data.mkdir()
        (data / "fnbuild.db").touch()
        with Store.open() as store:
            assert store.functions() == []

    def test_an_unreadable_configuration_is_reported(self, store, data):
        store.put_function(FunctionRow("nuclio", "face"))
        connection = sqlite3.connect(data / "fnbuild.db")
        connection.execute("UPDATE functions SET config = '{'")
        connection.commit()
        connection.close()
        with pytest.raises(StoreError, match="not JSON"):
            store.functions()

    def test_a_read_only_directory_is_reported(self):
        # Other users cannot read the folders of pytest, and the test runs as another user.
        with tempfile.TemporaryDirectory() as parent:
            data = Path(parent, "data")
            Store(data / "fnbuild.db").close()
            (data / "fnbuild.db").chmod(0o444)
            Path(parent).chmod(0o755)
            data.chmod(0o555)
            result = subprocess.run(
                [sys.executable, "-c", OPEN_AS_NOBODY],
                env={**os.environ, "FNBUILD_DATA_DIR": str(data)},
                capture_output=True,
                text=True,
                check=False,
            )
            data.chmod(0o755)
        assert result.returncode == 3, result.stderr
        assert f"cannot write to {data}/fnbuild.db" in result.stdout
        assert "and its files must be writable" in result.stdout

    def test_a_full_disk_is_reported(self, tiny_disk, monkeypatch):
        monkeypatch.setenv("FNBUILD_DATA_DIR", str(tiny_disk / "data"))

        def fill(store):
            for number in range(1000):
                row = FunctionRow("nuclio", f"f{number}", config={"k": "v" * 9999})
                store.put_function(row)

        with Store.open() as store:
            store.put_function(FunctionRow("nuclio", "kept"))
            with pytest.raises(StoreError, match="no space left on the disk"):
                fill(store)
            assert store.function("nuclio", "kept") is not None


# Root may write everywhere, so it changes its user. Imports come first: that user cannot read them.
OPEN_AS_NOBODY = """
import os, sys
from fnbuild.errors import StoreError
from fnbuild.store import Store
if os.getuid() == 0:
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    Store.open().functions()
except StoreError as error:
    print(error, error.hint)
    sys.exit(3)
"""
