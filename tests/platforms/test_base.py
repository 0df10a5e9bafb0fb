"""Changes of a plan."""

from __future__ import annotations

from fnbuild.platforms import Change
from fnbuild.platforms.plans import as_replacement, make_change, with_new_revision


def test_a_change_compares_live_and_planned_state() -> None:
    assert make_change("port", None, {"port": 1}).verb == "create"
    assert make_change("port", {"port": 1}, {"port": 2}).verb == "update"
    assert make_change("port", {"port": 1}, {"port": 1}).verb == "keep"


def test_unchanged_steps_become_replacements() -> None:
    kept, changed = Change("keep", "revision", {"a": 1}, {"a": 1}), Change("delete", "port")
    assert as_replacement(kept) == Change("replace", "revision", {"a": 1}, {"a": 1})
    assert as_replacement(changed) == changed
    port = Change("keep", "port")
    assert with_new_revision([kept, port, changed]) == (as_replacement(kept), port, changed)
