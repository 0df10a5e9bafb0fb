"""Revision records: listing, failures and rollback targets."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from fnbuild.errors import NotFoundError
from fnbuild.platforms import revision_records


@dataclass(frozen=True)
class Revision:
    """A recorded revision; its digest and its configuration are its content."""

    number: int
    source: int
    digest: str
    config: dict[str, Any] = field(default_factory=dict)


def rollback_target(*revisions: Revision) -> int:
    """Return the number of the revision that a rollback from the last one runs."""
    *superseded, current = revisions
    return revision_records.rollback_target("greeter", current, reversed(superseded)).number


def test_a_rollback_after_redeploys_runs_other_content() -> None:
    first, second = Revision(1, 1, "a"), Revision(2, 2, "b")
    assert rollback_target(first, second) == 1
    assert rollback_target(first, second, Revision(3, 2, "b")) == 1
    assert rollback_target(first, second, Revision(3, 2, "b"), Revision(4, 2, "b")) == 1
    # A deploy of the same content from its folder is no redeploy, but has no other content either.
    assert rollback_target(first, second, Revision(3, 3, "b"), Revision(4, 3, "b")) == 1
    assert (
        rollback_target(
            first, Revision(2, 2, "a", {"replicas": 2}), Revision(3, 2, "a", {"replicas": 2})
        )
        == 1
    )


def test_a_rollback_after_a_rollback_goes_further_back() -> None:
    revisions = [Revision(number, number, digest) for number, digest in enumerate("abc", 1)]
    assert rollback_target(*revisions, Revision(4, 2, "b")) == 1
    assert rollback_target(*revisions, Revision(4, 2, "b"), Revision(5, 2, "b")) == 1
    assert rollback_target(*revisions, Revision(4, 2, "b"), Revision(5, 5, "d")) == 4


@pytest.mark.parametrize(
    "more", [[], [Revision(2, 1, "a")], [Revision(2, 2, "b"), Revision(3, 1, "a")]]
)
def test_a_rollback_from_the_first_content_is_an_error(more: list[Revision]) -> None:
    with pytest.raises(NotFoundError, match="no other revision of greeter served before"):
        rollback_target(Revision(1, 1, "a"), *more)


def test_the_hint_for_missing_code_depends_on_the_configuration() -> None:
    plain = revision_records.missing_code_error("greeter", None)
    assert "--path FOLDER" in (plain.hint or "")
    inline = revision_records.missing_code_error(
        "greeter", {"spec": {"build": {"functionSourceCode": "ZGVm"}}}
    )
    assert "builds it from the source" in (inline.hint or "")
