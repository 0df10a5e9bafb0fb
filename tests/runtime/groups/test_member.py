"""Members of a group as processes of their own, which are killed at any moment."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from fnbuild.runtime.groups.folder import GroupFolder
from tests.runtime.groups import group_process

pytestmark = pytest.mark.system

NAMES = ("a", "b", "c", "d")
ROOT = Path(__file__).parents[3]


class Members:
    """The processes, and the kernel's list of the locks that they hold."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes: dict[str, subprocess.Popen[bytes]] = {}
        for name in NAMES:
            (folder / f"{name}.loaded").touch()
        self.inodes = {str((folder / f"{name}.loaded").stat().st_ino): name for name in NAMES}

    def start(self, name: str) -> None:
        command = [sys.executable, group_process.__file__, str(self.folder), name]
        env = {**os.environ, "PYTHONPATH": str(ROOT)}
        self.processes[name] = subprocess.Popen(command, env=env)

    def kill(self, name: str) -> None:
        self.processes[name].kill()
        self.processes[name].wait()

    def loaded(self) -> set[str]:
        lines = [line.split() for line in Path("/proc/locks").read_text().splitlines()]
        held = {words[5].rpartition(":")[2] for words in lines if words[1] == "FLOCK"}
        return {name for inode, name in self.inodes.items() if inode in held}

    def turns(self, name: str) -> int:
        path = self.folder / f"{name}.turns"
        return len(path.read_text().splitlines()) if path.exists() else 0


@pytest.fixture
def members(tmp_path: Path) -> Iterator[Members]:
    (tmp_path / "group").mkdir()
    members = Members(tmp_path)
    yield members
    for process in members.processes.values():
        process.send_signal(signal.SIGCONT)
        process.kill()
        process.wait()


def test_killed_members_leave_neither_tickets_nor_locks(members: Members) -> None:
    chance = random.Random(7)
    for name in NAMES:
        members.start(name)
    deadline = time.monotonic() + 8
    kills = 0
    next_kill = time.monotonic() + 1
    while time.monotonic() < deadline:
        # The kernel lists the locks in parts, so a change in between is confirmed.
        assert len(members.loaded()) < 2 or len(members.loaded()) < 2
        if time.monotonic() > next_kill:
            name = chance.choice(NAMES)
            members.kill(name)
            members.start(name)
            kills += 1
            next_kill = time.monotonic() + chance.random() * 0.4
        time.sleep(0.002)
    assert kills > 10
    before = {name: members.turns(name) for name in NAMES}
    deadline = time.monotonic() + 20
    while not all(members.turns(name) > before[name] + 2 for name in NAMES):
        assert time.monotonic() < deadline, {name: members.turns(name) for name in NAMES}
        time.sleep(0.05)
    with closing(GroupFolder(str(members.folder / "group"))) as folder:
        functions = [member.function for member in folder.read().members.values()]
    assert sorted(functions) == [f"nuclio/{name}" for name in NAMES]


def test_the_turn_of_a_frozen_member_is_passed_over(members: Members) -> None:
    for name in NAMES[:3]:
        members.start(name)
    deadline = time.monotonic() + 20
    while not all(members.turns(name) for name in NAMES[:3]):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    # If it is frozen while it has the memory or the group's lock, it is thawed and frozen again.
    while not _is_frozen_with_a_ticket(members, "a"):
        assert time.monotonic() < deadline
    before = members.turns("b"), members.turns("c")
    deadline = time.monotonic() + 30
    while members.turns("b") < before[0] + 3 or members.turns("c") < before[1] + 3:
        assert time.monotonic() < deadline, "the others have no turns"
        time.sleep(0.05)
    members.processes["a"].send_signal(signal.SIGCONT)
    turns = members.turns("a")
    while members.turns("a") < turns + 2:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def _is_frozen_with_a_ticket(members: Members, name: str) -> bool:
    members.processes[name].send_signal(signal.SIGSTOP)
    time.sleep(0.02)
    with closing(GroupFolder(str(members.folder / "group"))) as folder:
        waiting = [m.function for m in folder.read().members.values() if m.ticket is not None]
        for _ in range(100):
            with folder.change("nobody") as change:
                if change is not None and f"nuclio/{name}" in waiting:
                    return True
            time.sleep(0.001)
    members.processes[name].send_signal(signal.SIGCONT)
    time.sleep(0.02)
    return False
