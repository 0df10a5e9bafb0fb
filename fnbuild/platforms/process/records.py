"""Reading and changing what is on record about one function, under its lock."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from fnbuild.datadir import lock
from fnbuild.errors import FnbuildError, NotFoundError
from fnbuild.platforms import Deployment, Revision, history
from fnbuild.platforms.process import foreground, view
from fnbuild.platforms.process.layout import Key
from fnbuild.platforms.whereabouts import not_found
from fnbuild.spec.reader import from_raw
from fnbuild.store import FunctionRow, RevisionRow, Store


@contextlib.contextmanager
def changing(key: Key, participle: str, *, known: bool = False) -> Iterator[Store]:
    """The store, while nobody else may change the function, which has to be there if `known`."""
    with Store.open() as store:
        if known:
            existing(store, key)
        with lock(*key, participle):
            yield store


@contextlib.contextmanager
def held(key: Key, participle: str) -> Iterator[FunctionRow]:
    """The function, while nobody else may change it; `NotFoundError` when it is gone by then."""
    with Store.open() as store:
        existing(store, key)
        with lock(*key, participle):
            yield existing(store, key)


def settle(key: Key, store: Store, error: FnbuildError) -> None:
    """Leave no function `building` for good when its supervisor could not say how it ended."""
    row = store.function(*key)
    if row is not None and row.revision == 0 and row.state == "building":
        with contextlib.suppress(FnbuildError):
            store.update_function(*key, state="error", message=error.message)


def existing(store: Store, key: Key) -> FunctionRow:
    row = store.function(*key)
    if row is None:
        foreground.refuse(key)
        there = [(one.namespace, one.name) for one in store.functions()]
        raise not_found(*key, there)
    return row


def active(store: Store, row: FunctionRow) -> RevisionRow | None:
    return store.revision(row.namespace, row.name, row.revision) if row.revision else None


def newest(store: Store, key: Key) -> RevisionRow | None:
    return next(iter(store.revisions(*key)), None)


def recorded(store: Store, key: Key, number: int) -> RevisionRow:
    row = store.revision(*key, number)
    if row is None:
        known = ", ".join(str(one.number) for one in store.revisions(*key))
        raise NotFoundError(
            f"{key.name} has no revision {number}", hint=f"recorded: {known or 'none'}"
        )
    return row


def revision_to_roll_to(store: Store, key: Key, number: int | None) -> RevisionRow:
    if number is not None:
        return recorded(store, key, number)
    row = existing(store, key)
    superseded = (one for one in store.revisions(*key) if one.state == "superseded")
    return history.before(key.name, active(store, row), superseded)


def shown(store: Store, key: Key, warnings: tuple[str, ...] = ()) -> Deployment:
    row = existing(store, key)
    shown = view.deployment(row, active(store, row))
    return view.with_warnings(shown, warnings)


def shown_revision(row: RevisionRow) -> Revision:
    function = from_raw(row.config, f"{row.name} revision {row.number}")
    message = ": ".join(part for part in (row.note, row.message) if part)
    return Revision(row.number, row.created, row.state, row.digest, function, message)
