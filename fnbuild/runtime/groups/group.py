"""The members of a GPU group, and the rules by which they share its memory.

Waiting members have tickets and are served in their order. If the first does not fit, idle members
fall asleep for it, the least recently used first. After `PATIENCE` seconds, busy ones do as well,
the longest awake first, once their requests in hand are answered.
"""

import json
from typing import Any, Dict, Iterable, List, NamedTuple, Optional, Set

PATIENCE = 1.0
# Seconds for which a waiting member waits for the current data of the awake ones.
_ANSWER_TIME = 0.3

# Seconds for which a waiting member is present after it has looked at the group.
PRESENCE = 5.0

# States of members in addition to those of sleep: the workers wait for memory, or fail to load.
WAITING = "waiting"
FAILING = "failing"
_WITHOUT_MEMORY = ("asleep", WAITING)


class Member(NamedTuple):
    """A processor of a function in the group; times are Unix times, memory is in bytes.

    `awake` and `memory` are the limits of the group that the function declares. `need` is None
    until it is known. `busy` and `last_request` are those of the time at which the member knew the
    ticket `seen`. `ticket` is None unless the member waits. Its turn is passed over after
    `present_until`, which it renews unless its process is frozen.
    """

    function: str
    revision: int = 0
    joined: float = 0.0
    awake: Optional[int] = None
    memory: Optional[int] = None
    need: Optional[int] = None
    permanent: bool = False
    state: str = WAITING
    since: float = 0.0
    busy: bool = False
    last_request: float = 0.0
    seen: int = 0
    ticket: Optional[int] = None
    waiting_since: float = 0.0
    present_until: float = 0.0

    @property
    def holds_memory(self) -> bool:
        """True if the workers have memory, will have it soon, or still release it."""
        return self.state not in _WITHOUT_MEMORY


class Group:
    """The members by id, and facts about functions that outlive them.

    `measured` is the memory that functions need, `loaded` the last instance of each that was awake.
    """

    def __init__(self, text: str = "") -> None:
        values: Dict[str, Any] = json.loads(text) if text else {}
        self.members: Dict[str, Member] = {}
        for name, entry in values.get("members", {}).items():
            entry_values = {key: value for key, value in entry.items() if key in Member._fields}
            self.members[name] = Member(**entry_values)
        self.measured: Dict[str, int] = values.get("measured", {})
        self.loaded: Dict[str, str] = values.get("loaded", {})
        self.last_ticket: int = values.get("last_ticket", 0)

    def to_json(self) -> str:
        """Return the text that the constructor takes."""
        members = {name: dict(member._asdict()) for name, member in self.members.items()}
        values = {
            "members": members,
            "measured": self.measured,
            "loaded": self.loaded,
            "last_ticket": self.last_ticket,
        }
        return json.dumps(values, indent=1, sort_keys=True)

    @property
    def memory_limit(self) -> Optional[int]:
        """The budget: the smallest that a member declares."""
        return min((m.memory for m in self.members.values() if m.memory is not None), default=None)

    @property
    def awake_limit(self) -> Optional[int]:
        """The number of members that may be awake; 1 if no member declares any limit."""
        limits = [m.awake for m in self.members.values() if m.awake is not None]
        return min(limits, default=1 if self.memory_limit is None else None)

    def queue(self, now: float) -> List[str]:
        """Return the waiting members in the order of their tickets."""
        waiting = [
            (member.ticket, name)
            for name, member in self.members.items()
            if member.ticket is not None and member.present_until > now
        ]
        return [name for _, name in sorted(waiting)]

    @property
    def holders(self) -> Set[str]:
        """The members that hold memory."""
        return {name for name, member in self.members.items() if member.holds_memory}

    def new_ticket(self) -> int:
        """Return the next ticket."""
        self.last_ticket += 1
        return self.last_ticket

    def need_of(self, name: str) -> int:
        """Return the need of a member; if it is unknown, all that permanent members leave."""
        member = self.members[name]
        if member.need is not None:
            return member.need
        return max(0, (self.memory_limit or 0) - self._permanent_memory(name))

    def memory_used(self) -> int:
        """Return the memory of the awake members, as far as it is known."""
        return sum(self.members[name].need or 0 for name in self.holders)

    def fits(self, name: str, holders: Iterable[str]) -> bool:
        """Return True if the member may be awake together with these."""
        others = set(holders) - {name}
        if self.awake_limit is not None and len(others) >= self.awake_limit:
            return False
        budget = self.memory_limit
        needs = sum(self.need_of(other) for other in (*others, name))
        return budget is None or needs <= budget

    def permanent_obstacle(self, name: str) -> str:
        """Return the reason why the member can never be awake, or ""."""
        need, budget = self.need_of(name), self.memory_limit
        if budget is not None and need > budget:
            return "it needs %s, and the budget is %s" % (megabytes(need), megabytes(budget))
        function = self.members[name].function
        others = {
            other
            for other, member in self.members.items()
            if member.permanent and other != name and member.function != function
        }
        if self.fits(name, others):
            return ""
        names = ", ".join(sorted(self.members[other].function for other in others))
        return "its permanent members leave no room: " + names

    def releases(self, now: float) -> List[str]:
        """Return the members that have to fall asleep for the first waiting one."""
        queue = self.queue(now)
        if not queue:
            return []
        head = self.members[queue[0]]
        keep = {name for name in self.holders if self.members[name].state != "falling asleep"}
        candidates = [name for name in keep if self._may_yield(self.members[name], head)]
        current = [name for name in candidates if self.members[name].seen >= (head.ticket or 0)]
        waited = now - head.waiting_since
        if len(current) < len(candidates) and waited < _ANSWER_TIME:
            return []
        idle = [name for name in current if not self.members[name].busy]
        idle.sort(key=lambda name: (self.members[name].last_request, name))
        busy = [name for name in current if name not in idle and waited >= PATIENCE]
        busy.sort(key=lambda name: (self.members[name].since, name))
        chosen: List[str] = []
        for name in [*idle, *busy]:
            if self.fits(queue[0], keep - set(chosen)):
                break
            chosen.append(name)
        return chosen if self.fits(queue[0], keep - set(chosen)) else []

    def _may_yield(self, member: Member, head: Member) -> bool:
        """Return True if the member may fall asleep for `head`.

        A permanent one does so only for a later revision of its own function.
        """
        if member.permanent and not self._succeeds(head, member):
            return False
        return member.state in ("awake", FAILING)

    def _succeeds(self, head: Member, member: Member) -> bool:
        return head.function == member.function and head.joined > member.joined

    def _permanent_memory(self, name: str) -> int:
        """Return the memory of the permanent members of other functions."""
        own = self.members[name].function
        others = [m for m in self.members.values() if m.permanent and m.function != own]
        return sum(member.need or 0 for member in others)


def megabytes(size: int) -> str:
    """Return a size in MiB as text."""
    return "%.4g MiB" % (size / 2.0**20)
