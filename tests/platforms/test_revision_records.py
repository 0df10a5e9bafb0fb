"""Revision records: listing, failures and rollback targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fnbuild.errors import NotFoundError
from fnbuild.platforms import revision_records


@dataclass(frozen=True)
class Made:
    """A revision on record; its content is its digest and its configuration."""

    number: int
    source: int
    digest: str
    config: dict[str, Any] = field(default_factory=dict)


def before(*some: Made) -> int:
    """The number that a rollback from the last of them runs again."""
    *superseded, now = some
    return revision_records.rollback_target("greeter", now, reversed(superseded)).number


def test_a_rollback_behind_redeploys_runs_other_content() -> None:
    first, second = Made(1, 1, "a"), Made(2, 2, "b")
    assert before(first, second) == 1
    assert before(first, second, Made(3, 2, "b")) == 1
    assert before(first, second, Made(3, 2, "b"), Made(4, 2, "b")) == 1
    # The same content deployed from its folder again is no redeploy, and no other content either.
    assert before(first, second, Made(3, 3, "b"), Made(4, 3, "b")) == 1
    assert before(first, Made(2, 2, "a", {"replicas": 2}), Made(3, 2, "a", {"replicas": 2})) == 1


def test_a_rollback_behind_a_rollback_goes_further_back() -> None:
    some = [Made(number, number, word) for number, word in enumerate("abc", 1)]
    assert before(*some, Made(4, 2, "b")) == 1
    assert before(*some, Made(4, 2, "b"), Made(5, 2, "b")) == 1
    assert before(*some, Made(4, 2, "b"), Made(5, 5, "d")) == 4


@pytest.mark.parametrize("more", [[], [Made(2, 1, "a")], [Made(2, 2, "b"), Made(3, 1, "a")]])
def test_a_rollback_from_the_first_content(more: list[Made]) -> None:
    with pytest.raises(NotFoundError, match="no other revision of greeter served before"):
        before(Made(1, 1, "a"), *more)


def test_code_that_is_in_the_configuration() -> None:
    plain = revision_records.missing_code_error("greeter", None)
    assert "--path FOLDER" in (plain.hint or "")
    inline = revision_records.missing_code_error(
        "greeter", {"spec": {"build": {"functionSourceCode": "ZGVm"}}}
    )
    assert "builds it from the source" in (inline.hint or "")
