"""The sleep of a processor's workers and their GPU group, as the processor reports them."""

from __future__ import annotations

import time

import msgspec

_STATES_WITH_MEMORY = ("awake", "waking", "falling asleep", "failing")


class GroupMemberStatus(msgspec.Struct, frozen=True):
    """A member of a GPU group. Times are Unix times; `memory` is in bytes, None if unknown.

    `place` is that among the waiting members, from 1; 0 if it does not wait.
    """

    function: str
    revision: int = 0
    state: str = ""
    memory: int | None = None
    permanent: bool = False
    last_request: float = 0.0
    place: int = 0
    waiting_since: float | None = None

    @property
    def description(self) -> str:
        """Return the state in a few words."""
        name = self.function.partition("/")[2] or self.function
        if self.place and self.waiting_since is not None:
            seconds = max(0.0, time.time() - self.waiting_since)
            return f"{name} waits for {seconds:.0f} s (place {self.place})"
        if self.memory is None or self.state not in _STATES_WITH_MEMORY:
            return f"{name} {self.state}"
        return f"{name} {self.state} ({_mebibytes(self.memory)})"


class GroupStatus(msgspec.Struct, frozen=True):
    """A GPU group, with its limits and the memory of its awake members in bytes.

    `place` is that of the function itself among the waiting ones, 0 if it does not wait.
    """

    name: str
    place: int = 0
    awake_limit: int | None = None
    memory_limit: int | None = None
    memory_used: int = 0
    members: tuple[GroupMemberStatus, ...] = ()

    @property
    def usage(self) -> str:
        """Return the use of the limits, such as `2 of 3 awake, 12 GiB of 20 GiB`."""
        count = sum(member.state in _STATES_WITH_MEMORY for member in self.members)
        limit = "" if self.awake_limit is None else f" of {self.awake_limit}"
        parts = [f"{count}{limit} awake"]
        if self.memory_limit is not None:
            parts.append(f"{_mebibytes(self.memory_used)} of {_mebibytes(self.memory_limit)}")
        return ", ".join(parts)

    @property
    def description(self) -> str:
        """Return the use and the members in one line."""
        members = ", ".join(member.description for member in self.members)
        return f"GPU group {self.name} ({self.usage}): {members}"


class SleepStatus(msgspec.Struct, frozen=True):
    """The sleep of a processor's workers.

    `state` is awake, falling asleep, asleep, waking or, in a GPU group, waiting. `since` is the
    Unix time of the state, `wake_seconds` the duration of the last wake, or of the first start.
    `idle_timeout` is in seconds, None if the workers sleep on request only.
    """

    state: str = "awake"
    since: float = 0.0
    wake_seconds: float = 0.0
    idle_timeout: float | None = None
    level: str = "exit"
    group: GroupStatus | None = None

    @property
    def description(self) -> str:
        """Return the state and the expected time of a wake; "" for an awake function."""
        if self.state == "awake":
            return ""
        if self.state == "waiting" and self.group is not None:
            return f"waits for room in the GPU group {self.group.name} (place {self.group.place})"
        if self.state != "asleep":
            return self.state
        # A member of a GPU group that has not been awake since its processor started.
        return (
            f"asleep, wakes in about {self.wake_seconds:.2g} s" if self.wake_seconds else "asleep"
        )


def _mebibytes(size: int) -> str:
    return f"{size / 2**30:.3g} GiB" if size >= 2**30 else f"{size / 2**20:.3g} MiB"
