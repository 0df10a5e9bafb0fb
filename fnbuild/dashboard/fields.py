"""What a JSON body has at a key: text or an object, and the error for anything else."""

from __future__ import annotations

from fnbuild.errors import UsageError
from fnbuild.spec.types import Raw


def text_of(values: Raw, key: str, what: str) -> str:
    """The text at `key`, "" without; `what` is whose key it is, as in "a project"."""
    value = values.get(key)
    if not isinstance(value, str | None):
        raise UsageError(f"`{key}` of {what} is text")
    return value or ""


def texts_of(values: Raw, key: str, what: str) -> dict[str, str]:
    """The texts by name at `key`, none without."""
    value = values.get(key) or {}
    if not isinstance(value, dict) or not all(isinstance(one, str) for one in value.values()):
        raise UsageError(f"`{key}` of {what} are texts by name", hint='as in {"team": "harbour"}')
    return value


def mapping_of(values: Raw, key: str, what: str, hint: str) -> Raw:
    """The object at `key`."""
    value = values.get(key)
    if not isinstance(value, dict):
        raise UsageError(f"`{key}` of {what} is an object", hint=hint)
    return value
