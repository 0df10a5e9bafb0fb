"""The rules by which the members of a group share memory."""

from __future__ import annotations

import random
from typing import Any

import pytest

from fnbuild.runtime.groups.group import PATIENCE, Group, Member

NOW = 1000.0


def group(**members: dict[str, Any]) -> Group:
    """Return a group whose members are named after their functions."""
    result = Group()
    for name, values in members.items():
        result.members[name] = Member(**({"function": name, "present_until": NOW + 5} | values))
    tickets = [member.ticket or 0 for member in result.members.values()]
    result.last_ticket = max(tickets)
    return result


def awake(last: float = 0.0, **values: Any) -> dict[str, Any]:
    return {"state": "awake", "last_request": last, "seen": 99, **values}


def waits(ticket: int = 1, seconds: float = 0.5, **values: Any) -> dict[str, Any]:
    return {"ticket": ticket, "waiting_since": NOW - seconds, **values}


def test_the_text_of_a_group_has_everything() -> None:
    before = group(a=awake(need=5), b=waits())
    before.measured["a"] = 5
    after = Group(before.to_json())
    assert (after.members, after.measured) == (before.members, before.measured)
    assert after.last_ticket == before.last_ticket


def test_entries_of_later_versions_are_read() -> None:
    text = group(a=awake()).to_json().replace('"busy": false', '"busy": false, "mood": "good"')
    assert Group(text).members["a"].state == "awake"


def test_one_member_is_awake_without_any_limit() -> None:
    assert group(a={}, b={}).awake_limit == 1
    assert group(a={"memory": 5}, b={}).awake_limit is None
    assert group(a={"memory": 5}, b={"memory": 4, "awake": 2}).memory_limit == 4


def test_the_least_recently_used_idle_member_is_released() -> None:
    members = {"a": awake(30), "b": awake(10), "c": awake(20), "d": awake(5, busy=True)}
    assert group(x=waits(awake=4), **members).releases(NOW) == ["b"]


def test_members_are_released_until_there_is_room() -> None:
    members = {"a": awake(3, need=10), "b": awake(1, need=10), "c": awake(2, need=30)}
    assert group(x=waits(memory=50, need=25), **members).releases(NOW) == ["b", "c"]
    assert group(x=waits(memory=50, need=5), **members).releases(NOW) == ["b"]
    assert group(x=waits(memory=60, need=10), **members).releases(NOW) == []


def test_nothing_is_released_if_that_is_not_enough() -> None:
    members = {"a": awake(need=10), "b": awake(need=30, busy=True)}
    assert group(x=waits(memory=40, need=20), **members).releases(NOW) == []


def test_a_member_that_falls_asleep_is_waited_for() -> None:
    members = {"a": awake(), "b": {"state": "falling asleep"}}
    assert group(x=waits(awake=2), **members).releases(NOW) == []
    assert not group(x=waits(awake=2), **members).fits("x", {"a", "b"})


def test_busy_members_are_released_in_the_order_of_their_turns() -> None:
    members = {"a": awake(busy=True, since=7), "b": awake(busy=True, since=3)}
    patient, impatient = waits(awake=2), waits(awake=2, seconds=PATIENCE)
    assert group(x=patient, **members).releases(NOW) == []
    assert group(x=impatient, **members).releases(NOW) == ["b"]
    assert group(x=impatient, c=awake(), **members).releases(NOW) == ["c", "b"]


def test_data_from_before_the_ticket_is_not_used() -> None:
    members = {"a": awake(5, seen=0), "b": awake(9)}
    assert group(x=waits(awake=2, seconds=0.1), **members).releases(NOW) == []
    # It does not answer: its process is frozen, perhaps.
    assert group(x=waits(awake=2, seconds=0.5), **members).releases(NOW) == ["b"]


def test_failing_members_are_released_and_loading_ones_are_not() -> None:
    assert group(x=waits(), a=awake(state="failing")).releases(NOW) == ["a"]
    assert group(x=waits(seconds=99), a=awake(state="waking")).releases(NOW) == []


def test_permanent_members_are_released_for_their_next_revision_only() -> None:
    old = awake(permanent=True, function="f", joined=5)
    assert group(x=waits(), a=old).releases(NOW) == []
    assert group(x=waits(function="f", joined=6), a=old).releases(NOW) == ["a"]
    assert group(x=waits(function="f", joined=4), a=old).releases(NOW) == []


def test_tickets_are_served_in_their_order() -> None:
    waiting = group(x=waits(3), y=waits(2), z=waits(1, present_until=NOW - 1), a=awake())
    assert waiting.queue(NOW) == ["y", "x"]


def test_an_unknown_need_is_all_that_permanent_members_leave() -> None:
    members = group(
        a=awake(need=30, permanent=True), b=awake(need=10), x=waits(memory=100), y=waits(2, need=5)
    )
    assert members.need_of("x") == 70
    assert members.fits("x", {"a"})
    assert not members.fits("x", {"a", "b"})
    assert members.fits("y", {"a", "b"})
    assert members.memory_used() == 40


@pytest.mark.parametrize(
    ("own", "other", "reason"),
    [
        ({"need": 200 << 20}, {}, "it needs 200 MiB, and the budget is 100 MiB"),
        ({"need": 50 << 20}, {"permanent": True, "need": 60 << 20}, "leave no room: a"),
        ({"need": 50 << 20}, {"permanent": True, "need": 50 << 20}, ""),
        ({"need": 50 << 20}, {"need": 60 << 20}, ""),
        ({"need": 1, "awake": 1}, {"permanent": True, "need": 1}, "leave no room: a"),
    ],
)
def test_the_reason_why_a_member_never_fits(
    own: dict[str, Any], other: dict[str, Any], reason: str
) -> None:
    obstacle = group(x=waits(memory=100 << 20, **own), a=awake(**other)).permanent_obstacle("x")
    assert obstacle.endswith(reason) if reason else not obstacle


def test_released_members_always_make_room() -> None:
    chance = random.Random(3)
    for _ in range(3000):
        members = {
            str(number): awake(
                chance.randrange(9),
                need=chance.choice([None, *range(1, 60)]),
                permanent=chance.random() < 0.2,
                busy=chance.random() < 0.3,
                since=chance.randrange(9),
                state=chance.choice(["awake", "awake", "awake", "asleep", "waking"]),
            )
            for number in range(chance.randrange(1, 7))
        }
        limits = {"memory": chance.choice([None, 100]), "awake": chance.choice([None, 1, 2, 3])}
        head = waits(seconds=chance.random() * 2, need=chance.randrange(1, 100), **limits)
        drawn = group(x=head, **members)
        released = drawn.releases(NOW)
        assert all(drawn.members[name].state == "awake" for name in released)
        assert not any(drawn.members[name].permanent for name in released)
        if released:
            assert not drawn.fits("x", drawn.holders)
            assert drawn.fits("x", drawn.holders - set(released))
            assert not drawn.fits("x", drawn.holders - set(released[:-1]))
