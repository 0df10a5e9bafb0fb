"""How steps are made."""

from __future__ import annotations

from fnbuild.platforms import Step
from fnbuild.platforms.steps import anew, as_revision, compared


def test_what_is_there_and_what_ought_to_be() -> None:
    assert compared("port", None, {"port": 1}).verb == "create"
    assert compared("port", {"port": 1}, {"port": 2}).verb == "update"
    assert compared("port", {"port": 1}, {"port": 1}).verb == "keep"


def test_the_same_again() -> None:
    kept, changed = Step("keep", "revision", {"a": 1}, {"a": 1}), Step("delete", "port")
    assert anew(kept) == Step("replace", "revision", {"a": 1}, {"a": 1})
    assert anew(changed) == changed
    port = Step("keep", "port")
    assert as_revision([kept, port, changed]) == (anew(kept), port, changed)
