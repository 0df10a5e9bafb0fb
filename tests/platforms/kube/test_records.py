"""What is read from a function's record."""

from __future__ import annotations

import pytest

from fnbuild.errors import NotFoundError
from fnbuild.platforms import history
from fnbuild.platforms.kube import records
from fnbuild.platforms.kube.inventory import Known
from fnbuild.platforms.kube.labels import Key, Made

KEY = Key("vision", "greeter")


def made(number: int, note: str = "") -> Made:
    config = {"metadata": {"name": "greeter"}, "spec": {"description": f"number {number}"}}
    moment = f"2026-01-0{number}T00:00:00Z"
    return Made(KEY, number, moment, "c0de", "i", "", config, number, note=note)


def known(*some: Made, **more: str) -> Known:
    data = {str(one.number): one.to_json() for one in some}
    about = {"name": "nuclio-greeter", "labels": {"fnbuild.io/record": "revisions"}}
    record = {"kind": "ConfigMap", "metadata": about, "data": data | more}
    return Known(KEY, record=record)


def test_revisions_are_read_newest_first() -> None:
    failed = made(2).with_failure("no weights\nTraceback")
    some = known(made(1), failed, made(3, note="rollback to revision 1"))
    assert records.revisions(some) == [made(3, note="rollback to revision 1"), failed, made(1)]
    shown = records.shown(some)
    assert [(one.number, one.state, one.message) for one in shown] == [
        (3, "superseded", "rollback to revision 1"),
        (2, "failed", "no weights\nTraceback"),
        (1, "superseded", ""),
    ]
    assert shown[2].function.spec.description == "number 1"


def test_what_nobody_can_read_hides_nothing() -> None:
    some = known(made(1), **{"2": "{", "3": "[]", "notes": "mine"})
    assert records.revisions(some) == [made(1)]
    assert records.revisions(Known(KEY)) == []


def test_a_revision_that_is_not_on_record() -> None:
    with pytest.raises(NotFoundError, match="no revision 9") as failure:
        records.revision(known(made(1), made(2)), 9)
    assert failure.value.hint == "recorded: 2, 1"


def test_whether_anything_ever_served() -> None:
    failed = made(1).with_failure("no weights")
    assert records.never_served(known(failed))
    assert not records.never_served(known(failed, made(2)))
    assert not records.never_served(Known(KEY))


def test_why_a_function_without_pods_failed() -> None:
    failed = made(2).with_failure("the deploy was interrupted")
    [record] = history.failures(records.revisions(known(made(1), failed)))
    assert (record.level, record.message) == ("error", "the deploy was interrupted")
    assert list(history.failures(records.revisions(known(failed, made(3))))) == []
