"""A function's configuration as platforms record it."""

from __future__ import annotations

from fnbuild.spec.secrets import without_secrets
from fnbuild.spec.types import Function, Raw, to_dict


def config_of(function: Function) -> Raw:
    """What somebody wants, without what was the case and without secrets."""
    kept = {key: value for key, value in to_dict(function).items() if key != "status"}
    return without_secrets(kept)
