"""What clients never get to see stays as it is when they send back what they did get to see."""

from __future__ import annotations

from typing import Any

from fnbuild.dashboard.objects import redacted
from fnbuild.errors import UsageError
from fnbuild.spec.reader import from_raw
from fnbuild.spec.secrets import REDACTED
from fnbuild.spec.types import Function, Raw, to_dict


def with_stored(asked: Function, stored: Function | None) -> Function:
    """Return the requested function with stored secrets in place of unchanged masks.

    Readers see more masks than writers; both kinds are replaced. Raises `UsageError` for
    "[redacted]" if no value is stored.
    """
    before = to_dict(stored) if stored is not None else {}
    raw = _restored(to_dict(asked), before, redacted(before, values=False), "")
    return from_raw(raw, asked.metadata.name)


def _restored(asked: Any, stored: Any, shown: Any, place: str) -> Any:
    if isinstance(asked, dict):
        stored = stored if isinstance(stored, dict) else {}
        shown = shown if isinstance(shown, dict) else {}
        if stored.get("valueFrom") and asked.get("value"):
            return _restored_reference(asked, stored)
        # What has nothing else in it is shown empty, and comes back as nothing.
        hidden = {
            key: value
            for key, value in stored.items()
            if key not in asked and (key not in shown or (value and not shown[key]))
        }
        return hidden | {
            key: _restored(value, stored.get(key), shown.get(key), f"{place}.{key}")
            for key, value in asked.items()
        }
    if isinstance(asked, list):
        return _restored_list(asked, stored, shown, place)
    if stored is not None and asked == shown != stored:
        return stored
    if asked == REDACTED:
        raise UsageError(
            f"{place.removeprefix('.')} is {REDACTED}, and nothing is stored that this stands for",
            hint="send the value itself, or leave it out",
        )
    return asked


def _restored_reference(asked: Raw, stored: Raw) -> Raw:
    """Return a variable that is stored as a reference to the function's own Secret.

    Clients see it as a masked value. The reference is kept unless another value is sent.
    """
    if asked["value"] != REDACTED:
        return asked
    rest = {key: value for key, value in asked.items() if key != "value"}
    return {**rest, "valueFrom": stored["valueFrom"]}


def _restored_list(asked: list[Any], stored: Any, shown: Any, place: str) -> Any:
    """Its things as they are stored: by their names, and what has none as it was shown."""
    stored = list(stored) if isinstance(stored, list) else []
    shown = shown if isinstance(shown, list) else []
    if asked == shown:
        return stored
    before, seen = _by_name(stored), _by_name(shown)
    made = []
    for one in asked:
        name = _name(one)
        if not name and one in shown:
            made.append(stored[shown.index(one)])
        else:
            made.append(_restored(one, before.get(name), seen.get(name), f"{place}.{name}"))
    return made


def _by_name(values: Any) -> dict[str, Any]:
    """Things of a list by their names, as variables, containers and volumes have them."""
    return {_name(one): one for one in (values if isinstance(values, list) else []) if _name(one)}


def _name(one: Any) -> str:
    if not isinstance(one, dict):
        return ""
    volume = one.get("volume")
    name = volume.get("name") if isinstance(volume, dict) else one.get("name")
    return name if isinstance(name, str) else ""
