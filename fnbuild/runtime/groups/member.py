"""A processor as a member of a GPU group: it gets memory in its turn, and releases it for others.

Each member decides by the same rules (`group`) and acts for itself only; there is no arbiter. It
looks at group.json when another member has changed it, and again and again while any of them waits.
A member that ends at any moment loses its locks, and the others remove it.
"""

import abc
import asyncio
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List, Optional

from ..config import ConfigFileError, GroupConfig, ProcessorConfig
from ..logs import Log
from .folder import Change, GroupFolder, Membership
from .group import PRESENCE, WAITING, Group, Member, megabytes

# Seconds until the next look: if another process has the lock, while this member waits, and while
# another one waits; and after an error of the folder.
_LOCKED, _WAITING, _CONTENDED, _ERROR = 0.005, 0.1, 0.05, 1.0
# Seconds between measurements of the memory.
_MEASURE_INTERVAL = 1.0


class MemoryUser(abc.ABC):
    """The workers of a processor, as its membership controls them."""

    @abc.abstractmethod
    def group_state(self) -> str:
        """Return the state of sleep, `waiting` or `failing`."""

    @abc.abstractmethod
    def is_busy(self) -> bool:
        """Return True if requests are in hand."""

    @abc.abstractmethod
    def last_use(self) -> float:
        """Return the time of the last request or wake (`time.monotonic`)."""

    @abc.abstractmethod
    def measure_memory(self) -> Optional[int]:
        """Return the bytes that the workers use now; None if that is unknown."""

    @abc.abstractmethod
    def grant(self) -> None:
        """Load the workers: there is room."""

    @abc.abstractmethod
    def refuse(self, reason: str) -> None:
        """Stop waiting."""

    @abc.abstractmethod
    def release(self) -> None:
        """Fall asleep, after the requests in hand; others wait."""

    @abc.abstractmethod
    def keep(self) -> None:
        """End a release that has not begun to free memory."""


class GroupMember:
    """The membership of one processor. `wait_limit` is the longest wait in seconds.

    `function` is the processor's entry in its configuration. Raises OSError if the folder cannot be
    used.
    """

    def __init__(
        self,
        config: GroupConfig,
        function: Dict[str, Any],
        wait_limit: float,
        log: Log,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.config = config
        self._wait_limit = wait_limit
        self._log = log
        self._loop = loop
        self._folder = GroupFolder(config.folder)
        self._files: Membership = self._folder.add_member()
        name = "%s/%s" % (function.get("namespace") or "nuclio", function.get("name", ""))
        self._entry = Member(
            function=name,
            revision=int(function.get("revision") or 0),
            joined=time.time(),
            awake=config.awake,
            memory=config.memory,
            need=config.need,
            permanent=config.permanent,
        )
        self._user: Optional[MemoryUser] = None
        self._timer: Optional[asyncio.TimerHandle] = None
        self._measured_at = 0.0
        self._may_wait = True
        self._closed = False
        self._problem = ""
        loop.add_reader(self._files.socket.fileno(), self._on_message)

    @property
    def lock(self) -> int:
        """The locked descriptor, which workers inherit."""
        return self._files.lock

    def has_loaded_before(self) -> bool:
        """Return True if an earlier processor of the same revision has loaded its workers."""
        with suppress(OSError):
            instance = self._folder.read().loaded.get(self._entry.function)
            return bool(instance) and instance == self.config.instance
        return False

    def start(self, user: MemoryUser) -> None:
        """Begin to take part for the workers of `user`."""
        self._user = user
        self.update()

    def withdraw(self) -> None:
        """Stop waiting for good: the processor is about to end."""
        self._may_wait = False
        self.update()

    def close(self) -> None:
        """End the membership. It counts until the last worker has ended, too."""
        if self._closed:
            return
        self._closed = True
        self._cancel_timer()
        self._loop.remove_reader(self._files.socket.fileno())
        with suppress(OSError, ValueError):
            others = [name for name in self._folder.read().members if name != self._files.name]
            self._folder.notify(others, self._files.socket)
        self._files.close()
        self._folder.close()

    def update(self) -> None:
        """Enter the current state into the group, and act on the states of the others."""
        user = self._user
        self._cancel_timer()
        if user is None or self._closed:
            return
        try:
            with self._folder.change(self._files.name) as change:
                if change is None:
                    self._schedule(_LOCKED)
                    return
                before = self._entry
                act = self._take_part(change, user)
                queue = change.group.queue(time.time())
            self._problem = ""
        except OSError as error:
            self._report("the folder of the GPU group cannot be used: %s" % error)
            self._schedule(_ERROR)
            return
        entry = self._entry
        if self._must_notify(before, change, queue):
            others = [name for name in change.group.members if name != self._files.name]
            self._folder.notify(others, self._files.socket)
        if entry.ticket is not None:
            self._schedule(_WAITING)
        elif queue and entry.holds_memory:
            self._schedule(_CONTENDED)
        elif entry.need is None and entry.state == "awake":
            self._schedule(_MEASURE_INTERVAL)
        act()

    def to_dict(self) -> Dict[str, Any]:
        """Return the entry in the status."""
        try:
            group = self._folder.read()
        except OSError as error:
            group = Group()
            self._report("the folder of the GPU group cannot be used: %s" % error)
        queue, name = group.queue(time.time()), self._files.name
        return {
            "name": self.config.name,
            "place": queue.index(name) + 1 if name in queue else 0,
            "awake_limit": group.awake_limit,
            "memory_limit": group.memory_limit,
            "memory_used": group.memory_used(),
            "members": [
                {
                    "function": member.function,
                    "revision": member.revision,
                    "state": member.state,
                    "memory": member.need,
                    "permanent": member.permanent,
                    "last_request": member.last_request,
                    "place": queue.index(name) + 1 if name in queue else 0,
                    "waiting_since": member.waiting_since if name in queue else None,
                }
                for name, member in sorted(group.members.items(), key=lambda item: item[1].joined)
            ],
        }

    def _take_part(self, change: Change, user: MemoryUser) -> Callable[[], None]:
        """Update the entry; return the action that follows once the group is unlocked."""
        group, name, now = change.group, self._files.name, time.time()
        self._refresh(group, user, now)
        entry = self._entry
        if entry.ticket is None:
            if name in group.releases(now):
                user.release()
            else:
                user.keep()
            self._refresh(group, user, now)
            return lambda: None
        obstacle = self._obstacle(group, now)
        if obstacle:
            self._set(group, entry._replace(ticket=None, state="asleep"))
            return lambda: user.refuse(obstacle)
        if group.queue(now)[0] == name and group.fits(name, group.holders):
            self._set(group, entry._replace(ticket=None, state="waking", since=now))
            return user.grant
        return lambda: None

    def _refresh(self, group: Group, user: MemoryUser, now: float) -> None:
        """Enter the present facts, and a ticket if the workers wait for memory."""
        state, entry = user.group_state(), self._entry
        if state != entry.state:
            entry = entry._replace(state=state, since=now)
        if state == "awake" and self.config.instance:
            group.loaded[entry.function] = self.config.instance
        if self.config.need is None:
            entry = entry._replace(need=self._measured_need(group, user, state))
        if state != WAITING or not self._may_wait:
            entry = entry._replace(ticket=None)
        elif entry.ticket is None:
            entry = entry._replace(ticket=group.new_ticket(), waiting_since=now)
        if entry.ticket is not None and entry.present_until < now + PRESENCE / 2:
            entry = entry._replace(present_until=now + PRESENCE)
        if group.queue(now) and entry.holds_memory:
            last = now - (time.monotonic() - user.last_use())
            busy, seen = user.is_busy(), group.last_ticket
            entry = entry._replace(busy=busy, last_request=round(last, 3), seen=seen)
        self._set(group, entry)

    def _measured_need(self, group: Group, user: MemoryUser, state: str) -> Optional[int]:
        """Return the largest need that was measured for the function, also now."""
        largest = group.measured.get(self._entry.function)
        recent = time.monotonic() - self._measured_at < _MEASURE_INTERVAL
        if state != "awake" or recent or (largest is not None and not group.queue(time.time())):
            return largest
        self._measured_at = time.monotonic()
        measured = user.measure_memory()
        if measured is None:
            return largest
        need = max(largest or 0, measured)
        group.measured[self._entry.function] = need
        if need != largest and group.memory_limit is not None and need > group.memory_limit:
            text = "The workers use %s, more than the budget of the GPU group %s, which is %s"
            values = (megabytes(need), self.config.name, megabytes(group.memory_limit))
            self._log.warn(text % values)
        return need

    def _obstacle(self, group: Group, now: float) -> str:
        """Return the reason why waiting is pointless, or has lasted too long, or ""."""
        where = "the GPU group %s has no room" % self.config.name
        never = group.permanent_obstacle(self._files.name)
        if never:
            return "%s: %s" % (where, never)
        if now - self._entry.waiting_since < self._wait_limit:
            return ""
        others = ["%s is %s" % (m.function, m.state) for m in group.members.values()
                  if m.holds_memory]  # fmt: skip
        place = group.queue(now).index(self._files.name)
        before = ["%d waited before it" % place] if place else []
        return "%s after %g s: %s" % (where, self._wait_limit, ", ".join(others + before))

    def _set(self, group: Group, entry: Member) -> None:
        self._entry = group.members[self._files.name] = entry

    def _must_notify(self, before: Member, change: Change, queue: List[str]) -> bool:
        """Return True if something has changed that others do not notice while they poll."""
        entry = self._entry
        same = (entry.state, entry.ticket, entry.need) == (before.state, before.ticket, before.need)
        if not same:
            return change.saved
        is_head = entry.ticket is not None and queue[:1] == [self._files.name]
        return is_head and any(
            member.holds_memory and member.seen < (entry.ticket or 0)
            for member in change.group.members.values()
        )

    def _on_message(self) -> None:
        with suppress(BlockingIOError):
            while True:
                self._files.socket.recv(16)
        self.update()

    def _report(self, problem: str) -> None:
        if problem != self._problem:
            self._log.error(problem)
        self._problem = problem

    def _schedule(self, seconds: float) -> None:
        self._timer = self._loop.call_later(seconds, self.update)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None


def join_group(
    config: ProcessorConfig, log: Log, loop: asyncio.AbstractEventLoop
) -> Optional[GroupMember]:
    """Return the membership of the function, if it has a group; its workers will inherit the lock.

    Raises ConfigFileError if the folder cannot be used.
    """
    group = config.sleep.group
    if group is None:
        return None
    try:
        member = GroupMember(group, config.function, config.readiness_timeout, log, loop)
    except OSError as error:
        text = "sleep.group.folder: %s cannot be used: %s"
        raise ConfigFileError(text % (group.folder, error)) from None
    config.group_lock = member.lock
    return member
