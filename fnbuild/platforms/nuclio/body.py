"""A function as it is handed to Nuclio."""

from __future__ import annotations

import json

from fnbuild.builder.processor_settings import processor_settings
from fnbuild.platforms import Artifact
from fnbuild.platforms.nuclio.comparing import compared, skeleton
from fnbuild.platforms.nuclio.records import (
    PROCESSOR_VARIABLE,
    SKIP,
    Facts,
    now,
    registry_of,
    without_own,
)
from fnbuild.spec.types import Function, Raw, to_dict

# With any of these Nuclio builds, unless it is told not to, which it refuses for a new function.
_BUILT_FROM = ("path", "functionSourceCode", "image")
_NEVER_BUILD = "neverBuild"
FILLED_IN = ("runRegistry", "imagePullPolicy")
"""What a deploy sets where nobody gave it."""

# Requests still come for a while after a pod was told to end, and it has 30 s for that.
_LINGER_SECONDS = 5
_DRAIN_SECONDS = 20


def wanted(function: Function, artifact: Artifact, number: int) -> Raw:
    """The function as it is handed to Nuclio, but for what `taken_as_it_is` adds.

    What an export wrote to hold a deploy back is left out, as nuctl does. The image is an exact one
    where there is one, with the registry that it is in as runRegistry: where that is empty, a
    dashboard puts its own before the name (pkg/dashboard/resource).
    """
    raw = given(function)
    spec = raw.setdefault("spec", {})
    fields = skeleton(compared(raw))
    fields["spec"].update({name: 1 for name in FILLED_IN if spec.get(name)})
    image = artifact.pinned or artifact.reference
    spec["image"], registry = _in_registry(image, function.spec.run_registry)
    if registry:
        spec["runRegistry"] = registry
    if artifact.pinned:
        spec.setdefault("imagePullPolicy", "IfNotPresent")
    spec["env"] = [*spec.get("env", []), _processor(function)]
    facts = Facts(number, now(), artifact.digest, artifact.reference, artifact.pinned, fields)
    metadata = raw.setdefault("metadata", {})
    kept = {k: text for k, text in metadata.get("annotations", {}).items() if k not in SKIP}
    metadata["annotations"] = kept | facts.annotations()
    return raw


def given(function: Function) -> Raw:
    """What somebody wants, without what was the case; secrets are in it."""
    raw = {key: value for key, value in to_dict(function).items() if key != "status"}
    raw.get("metadata", {}).pop("resourceVersion", None)
    return raw


def taken_as_it_is(raw: Raw, *, exists: bool) -> Raw:
    """The function, so that a dashboard takes the image as it is.

    A function that exists may keep its code and where that came from, with the order not to build;
    one that does not has to come without, for Nuclio refuses the order then
    (pkg/platform/abstract/platform.go, HandleDeployFunction).
    """
    spec = dict(raw.get("spec") or {})
    build = dict(spec.get("build") or {})
    if exists:
        build["mode"] = _NEVER_BUILD
    else:
        build = {key: value for key, value in build.items() if key not in (*_BUILT_FROM, "mode")}
        build["codeEntryType"] = "image"
    return {**raw, "spec": {**spec, "build": build}}


def imported(function: Function) -> Raw:
    """The function as one that only waits (PrepareFunctionForExport's annotations)."""
    raw = given(function)
    metadata = raw.setdefault("metadata", {})
    metadata["annotations"] = {
        **without_own(metadata.get("annotations", {})),
        "skip-build": "true",
        "skip-deploy": "true",
    }
    return raw


def _in_registry(image: str, registry: str) -> tuple[str, str]:
    """The reference as the nodes have it, and the registry in it."""
    registry = registry.rstrip("/")
    own = registry_of(image)
    if not registry or image.startswith(f"{registry}/"):
        return image, registry or own
    rest = image.removeprefix(f"{own}/") if own else image
    return f"{registry}/{rest}", registry


def _processor(function: Function) -> Raw:
    """The processor's settings as a variable.

    Nuclio hands variables to Docker between single quotes and does not escape those within, so JSON
    writes them in its other way.
    """
    values = {
        **processor_settings(function),
        "accept": "ready-or-end",  # Nuclio waits for one of the two
        "linger": _LINGER_SECONDS,
        "drain_timeout": _DRAIN_SECONDS,
    }
    text = json.dumps(values, sort_keys=True, separators=(",", ":")).replace("'", "\\u0027")
    return {"name": PROCESSOR_VARIABLE, "value": text}
