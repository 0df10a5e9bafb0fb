"""What Kubernetes takes as names, labels and annotations, told before it is asked."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

from fnbuild.errors import InputError

_LONGEST_NAME = 63
_MOST_ANNOTATIONS = 256 << 10
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(rf"({_PART})?")
_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_PART}")


def check_name(word: str, text: str, whole: str = "") -> None:
    """Raises `InputError` for what is no DNS label; `whole` is the longer name that it is part of.

    `word` says what it is the name of.
    """
    if not _DNS_LABEL.fullmatch(text):
        raise InputError(
            f"{text!r} cannot be a {word} in Kubernetes",
            hint=f"lower-case letters, digits and '-', as in {_suggested(text)!r}",
        )
    over = len(whole or text) - _LONGEST_NAME
    if over > 0:
        raise InputError(
            f"the {word} {text!r} has {len(text)} characters; in Kubernetes it may have"
            f" {len(text) - over}",
            hint=f"shorten it by {over}",
        )


def is_namespace(text: str) -> bool:
    """Return True if a namespace can have this name."""
    return bool(_DNS_LABEL.fullmatch(text)) and len(text) <= _LONGEST_NAME


def is_value(text: str) -> bool:
    """Return True if a label can have this value."""
    return bool(_VALUE.fullmatch(text))


def _suggested(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "face-detector"


def check_labels(labels: Mapping[str, str]) -> None:
    for key, value in labels.items():
        if not _KEY.fullmatch(key):
            raise InputError(
                f"metadata.labels: {key!r} is no label's key in Kubernetes",
                hint="letters, digits, '-', '_' and '.', as in 'team' or 'example.org/team'",
            )
        if not _VALUE.fullmatch(value):
            raise InputError(
                f"metadata.labels.{key}: {value!r} is no label's value in Kubernetes",
                hint="up to 63 letters, digits, '-', '_' and '.'; an annotation takes any text",
            )


def check_annotations(annotations: Mapping[str, str], own: Collection[str]) -> None:
    """`own` are those that nobody wrote by hand."""
    for key in annotations:
        if not _KEY.fullmatch(key):
            raise InputError(
                f"metadata.annotations: {key!r} is no annotation's key in Kubernetes",
                hint="letters, digits, '-', '_' and '.', as in 'type' or 'example.org/type'",
            )
    sizes = {key: len(key.encode()) + len(text.encode()) for key, text in annotations.items()}
    total = sum(sizes.values())
    if total > _MOST_ANNOTATIONS:
        given = {key: size for key, size in sizes.items() if key not in own}
        largest = max(given, key=lambda key: given[key], default="")
        what = f"; the largest of metadata.annotations is {largest!r}" if largest else ""
        raise InputError(
            f"the configuration takes {total >> 10} KiB as annotations of a pod, and Kubernetes"
            f" takes {_MOST_ANNOTATIONS >> 10}{what}",
            hint="move long texts into files beside the handler; annotations count twice",
        )
