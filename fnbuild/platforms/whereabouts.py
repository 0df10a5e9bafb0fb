"""What is said of a function that somebody did not find: where it is, or which one was meant."""

from __future__ import annotations

from collections.abc import Iterable

from fnbuild.errors import NotFoundError
from fnbuild.spec.hints import closest


def not_found(namespace: str, name: str, known: Iterable[tuple[str, str]]) -> NotFoundError:
    """The error with its remedy; `known` are the functions there are, by namespace and name."""
    message = f"there is no function {name} in namespace {namespace}"
    places = list(known)
    elsewhere = [space for space, one in places if one == name]
    close = closest(name, (one for space, one in places if space == namespace))
    hint = "`fnbuild get functions` lists them"
    if elsewhere:
        hint = f"it is in namespace {' and '.join(elsewhere)}: `-n {elsewhere[0]}`"
    elif close:
        hint = f'did you mean "{close}"?'
    return NotFoundError(message, hint=hint)
