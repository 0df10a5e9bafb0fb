"""Names of objects, and their validation."""

from __future__ import annotations

import re

from fnbuild.errors import InputError

_MAX_NAME_LENGTH = 63
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")


def validate_name(name_kind: str, text: str, full_name: str = "") -> None:
    """Raise `InputError` unless `text` is a DNS label.

    `name_kind` describes the name in messages; `full_name` is a longer name that includes it.
    """
    if not _DNS_LABEL.fullmatch(text):
        raise InputError(
            f"{text!r} cannot be a {name_kind} in Kubernetes",
            hint=f"lower-case letters, digits and '-', as in {_suggest_name(text)!r}",
        )
    over = len(full_name or text) - _MAX_NAME_LENGTH
    if over > 0:
        raise InputError(
            f"the {name_kind} {text!r} has {len(text)} characters; in Kubernetes it may have"
            f" {len(text) - over}",
            hint=f"shorten it by {over}",
        )


def is_valid_namespace(text: str) -> bool:
    """Return True if a namespace can have this name."""
    return bool(_DNS_LABEL.fullmatch(text)) and len(text) <= _MAX_NAME_LENGTH


def _suggest_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "face-detector"
