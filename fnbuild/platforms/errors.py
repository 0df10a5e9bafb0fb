"""Errors that all platforms report in the same words."""

from __future__ import annotations

from collections.abc import Iterable

from fnbuild.errors import ConflictError, NotFoundError, NotReadyError
from fnbuild.function.suggestions import closest


def function_exists_error(key: tuple[str, str]) -> ConflictError:
    """Return the error for the import of a function that exists."""
    namespace, name = key
    return ConflictError(
        f"there is a function {name} in namespace {namespace} already",
        hint=f"delete it first: `fnbuild delete function {name}`",
    )


def function_not_found_error(
    namespace: str, name: str, functions: Iterable[tuple[str, str]]
) -> NotFoundError:
    """Return the error for a missing function; `functions` are all others (namespace, name)."""
    message = f"there is no function {name} in namespace {namespace}"
    keys = list(functions)
    elsewhere = [space for space, other in keys if other == name]
    close = closest(name, (other for space, other in keys if space == namespace))
    hint = "`fnbuild get functions` lists them"
    if elsewhere:
        hint = f"it is in namespace {' and '.join(elsewhere)}: `-n {elsewhere[0]}`"
    elif close:
        hint = f'did you mean "{close}"?'
    return NotFoundError(message, hint=hint)


def no_ready_pod_error(name: str) -> NotReadyError:
    """Return the error for a forwarded port of a function that has no ready pod."""
    return NotReadyError(
        f"{name} has no pod that is ready", hint=f"`fnbuild logs {name}` says more"
    )
