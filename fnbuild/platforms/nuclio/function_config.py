"""The configuration of a function as Nuclio stores it: read, compared and written.

It has the form of the dashboard's API and of the NuclioFunction resource: metadata, spec and status
(pkg/functionconfig/types.go). The revision record of fnbuild is in annotations, which Nuclio keeps.
Nuclio fills in defaults, so a comparison leaves out the fields that no deploy has set.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from fnbuild.builder.processor_settings import processor_settings
from fnbuild.errors import PreconditionError
from fnbuild.function.function_rules import RESERVED_NAMES
from fnbuild.function.quantities import parse_quantity
from fnbuild.function.types import Function, Raw, to_dict
from fnbuild.platforms import Artifact
from fnbuild.platforms.base import FunctionKey

PROJECT_LABEL = "nuclio.io/project-name"
EXPORT_ANNOTATIONS = ("skip-build", "skip-deploy", "nuclio.io/previous-state")

PROCESSOR_VARIABLE = "FNBUILD_PROCESSOR"
"""The environment variable with the processor's settings.

Nuclio lays its own configuration over the folder where an image has them, on every platform.
"""

WAITING_STATE = "waitingForResourceConfiguration"
SETTLED_STATES = frozenset({"ready", "error", "unhealthy", "scaledToZero", "imported"})
"""The states in which nothing is under way (pkg/functionconfig/types.go)."""

_LAST_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
_PREFIX = "fnbuild.io/"
_REVISION_ANNOTATION = f"{_PREFIX}revision"
_CREATED_ANNOTATION = f"{_PREFIX}created"
_DIGEST_ANNOTATION = f"{_PREFIX}digest"
_IMAGE_ANNOTATION = f"{_PREFIX}image"
_PINNED_ANNOTATION = f"{_PREFIX}pinned"
_FIELDS_ANNOTATION = f"{_PREFIX}fields"


def key_of(function: Function) -> FunctionKey:
    """Raises `PreconditionError` for the names of Nuclio's own parts."""
    name = function.metadata.name
    if name in RESERVED_NAMES:
        raise PreconditionError(
            f"{name!r} is the name of a part of Nuclio", hint="give the function another name"
        )
    return FunctionKey(function.metadata.namespace, name)


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """What fnbuild wrote down when it deployed a function; `number` is 0 for one of others.

    `image` is the name that people know, `pinned` an exact reference of it or "". `fields` are the
    keys that were given, each with those below it: what is gone from them was taken away.
    """

    number: int = 0
    created: str = ""
    digest: str = ""
    image: str = ""
    pinned: str = ""
    fields: Raw | None = None

    def annotations(self) -> dict[str, str]:
        given = {
            _REVISION_ANNOTATION: str(self.number),
            _CREATED_ANNOTATION: self.created,
            _DIGEST_ANNOTATION: self.digest,
            _IMAGE_ANNOTATION: self.image,
            _PINNED_ANNOTATION: self.pinned,
            _FIELDS_ANNOTATION: json.dumps(self.fields, separators=(",", ":"), sort_keys=True),
        }
        return {name: text for name, text in given.items() if text}


def decode_revision(stored: Raw) -> RevisionRecord:
    annotations = metadata_of(stored).get("annotations") or {}
    number = str(annotations.get(_REVISION_ANNOTATION, ""))
    if not number.isdecimal():
        return RevisionRecord(image=str((stored.get("spec") or {}).get("image") or ""))
    return RevisionRecord(
        number=int(number),
        created=annotations.get(_CREATED_ANNOTATION, ""),
        digest=annotations.get(_DIGEST_ANNOTATION, ""),
        image=annotations.get(_IMAGE_ANNOTATION, ""),
        pinned=annotations.get(_PINNED_ANNOTATION, ""),
        fields=_parse_object(annotations.get(_FIELDS_ANNOTATION, "")),
    )


def metadata_of(stored: Raw) -> Raw:
    metadata: Raw = stored.get("metadata") or {}
    return metadata


def status_of(stored: Raw) -> Raw:
    status: Raw = stored.get("status") or {}
    return status


def state_of(stored: Raw) -> str:
    """Nuclio's own word; "" counts as being provisioned."""
    return str(status_of(stored).get("state") or "")


def project_of(stored: Raw) -> str:
    labels = metadata_of(stored).get("labels") or {}
    return str(labels.get(PROJECT_LABEL) or "default")


def user_annotations(annotations: Mapping[str, str]) -> dict[str, str]:
    """The annotations that are not fnbuild's own, nor kubectl's copy of the whole with secrets."""
    return {
        name: text
        for name, text in annotations.items()
        if not name.startswith(_PREFIX) and name != _LAST_APPLIED
    }


def registry_of(image: str) -> str:
    """The registry in an image's reference, "" when it names none."""
    first, slash, _ = image.partition("/")
    named = first == "localhost" or "." in first or ":" in first
    return first if slash and named else ""


def _parse_object(text: str) -> Raw | None:
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


# What the image and its code stand for, and what Nuclio or its dashboard sets by itself.
_IGNORED_SPEC_FIELDS = ("image", "imageHash", "runRegistry", "imagePullPolicy", "version", "alias")
_IGNORED_BUILD_FIELDS = (
    "path", "functionSourceCode", "image", "mode", "codeEntryType", "registry", "timestamp",
    "noBaseImagesPull", "offline", "noCache", "noCleanup", "tempDir", "functionConfigPath",
)  # fmt: skip
# Nuclio keeps such values elsewhere when it masks them (pkg/functionconfig/scrubber.go).
_MASK_PREFIX = "$ref:"
# Kubernetes writes 1000m as 1.
_QUANTITY_FIELD = "resources"


def comparable_fields(raw: Raw) -> Raw:
    """What of a function is compared, with its variables by their names."""
    metadata, spec = metadata_of(raw), dict(raw.get("spec") or {})
    for name in _IGNORED_SPEC_FIELDS:
        spec.pop(name, None)
    # What others wrote may be of any type.
    build, env = spec.pop("build", None), spec.pop("env", None)
    build = {k: one for k, one in _as_mapping(build).items() if k not in _IGNORED_BUILD_FIELDS}
    triggers = _as_mapping(spec.pop("triggers", None))
    given = [one for one in env if isinstance(one, dict)] if isinstance(env, list) else []
    variables = {str(one.get("name")): _variable_value(one) for one in given}
    variables.pop(PROCESSOR_VARIABLE, None)
    if build:
        spec["build"] = build
    if triggers:
        spec["triggers"] = {name: _as_mapping(one) for name, one in triggers.items()}
    if variables:
        spec["env"] = variables
    return {
        "metadata": {
            "labels": metadata.get("labels") or {},
            "annotations": user_annotations(metadata.get("annotations") or {}),
        },
        "spec": spec,
    }


def _as_mapping(value: Any) -> Raw:
    return value if isinstance(value, dict) else {}


def _variable_value(one: Raw) -> Any:
    """The value of a variable, or where it comes from."""
    rest = {key: value for key, value in one.items() if key != "name"}
    return rest.get("value", "") if set(rest) <= {"value"} else rest


def key_tree(values: Any) -> Any:
    """The keys of a mapping with those below them; 1 stands for anything else."""
    if not isinstance(values, dict):
        return 1
    return {key: key_tree(value) for key, value in values.items()}


def select_fields(stored: Any, after: Any, fields: Any, place: str = "") -> Any:
    """Of what Nuclio has, the part that is wanted now or was given at the last deploy (`fields`).

    None for `fields` means that nobody knows what was given: then it is all that Nuclio has. Values
    that mean the same as the wanted ones are shown as these.
    """
    if not isinstance(stored, dict):
        return _comparable_leaf(stored, after, place)
    wanted = after if isinstance(after, dict) else {}
    given = fields if isinstance(fields, dict) else {}
    # In the order of what is wanted, so that order is no difference.
    return {
        key: select_fields(
            stored[key],
            wanted.get(key),
            None if fields is None else given.get(key, {}),
            place if place == _QUANTITY_FIELD else key,
        )
        for key in dict.fromkeys([*wanted, *stored])
        if key in stored and (fields is None or key in wanted or key in given)
    }


def _comparable_leaf(stored: Any, after: Any, place: str) -> Any:
    if not isinstance(stored, str) or not isinstance(after, str):
        return stored
    alike = place == _QUANTITY_FIELD and _same_quantity(stored, after)
    return after if alike or stored.startswith(_MASK_PREFIX) else stored


def _same_quantity(one: str, other: str) -> bool:
    try:
        return bool(parse_quantity(one) == parse_quantity(other))
    except ValueError:
        return False


# With any of these Nuclio builds, unless it is told not to, which it refuses for a new function.
_BUILD_SOURCE_FIELDS = ("path", "functionSourceCode", "image")
_NEVER_BUILD_MODE = "neverBuild"
FILLED_IN_FIELDS = ("runRegistry", "imagePullPolicy")
"""What a deploy sets where nobody gave it."""

# Requests still come for a while after a pod was told to end, and it has 30 s for that.
_LINGER_SECONDS = 5
_DRAIN_SECONDS = 20


def deploy_config(function: Function, artifact: Artifact, number: int) -> Raw:
    """The function as it is handed to Nuclio, but for what `taken_as_it_is` adds.

    What an export wrote to hold a deploy back is left out, as nuctl does. The image is an exact one
    where there is one, with the registry that it is in as runRegistry: where that is empty, a
    dashboard puts its own before the name (pkg/dashboard/resource).
    """
    raw = user_config(function)
    spec = raw.setdefault("spec", {})
    fields = key_tree(comparable_fields(raw))
    fields["spec"].update({name: 1 for name in FILLED_IN_FIELDS if spec.get(name)})
    image = artifact.pinned or artifact.reference
    spec["image"], registry = _split_registry(image, function.spec.run_registry)
    if registry:
        spec["runRegistry"] = registry
    if artifact.pinned:
        spec.setdefault("imagePullPolicy", "IfNotPresent")
    spec["env"] = [*spec.get("env", []), _processor_variable(function)]
    facts = RevisionRecord(
        number, timestamp(), artifact.digest, artifact.reference, artifact.pinned, fields
    )
    metadata = raw.setdefault("metadata", {})
    kept = {
        k: text
        for k, text in metadata.get("annotations", {}).items()
        if k not in EXPORT_ANNOTATIONS
    }
    metadata["annotations"] = kept | facts.annotations()
    return raw


def user_config(function: Function) -> Raw:
    """What somebody wants, without what was the case; secrets are in it."""
    raw = {key: value for key, value in to_dict(function).items() if key != "status"}
    raw.get("metadata", {}).pop("resourceVersion", None)
    return raw


def with_prebuilt_image(raw: Raw, *, exists: bool) -> Raw:
    """The function, so that a dashboard takes the image as it is.

    A function that exists may keep its code and where that came from, with the order not to build;
    one that does not has to come without, for Nuclio refuses the order then
    (pkg/platform/abstract/platform.go, HandleDeployFunction).
    """
    spec = dict(raw.get("spec") or {})
    build = dict(spec.get("build") or {})
    if exists:
        build["mode"] = _NEVER_BUILD_MODE
    else:
        build = {
            key: value for key, value in build.items() if key not in (*_BUILD_SOURCE_FIELDS, "mode")
        }
        build["codeEntryType"] = "image"
    return {**raw, "spec": {**spec, "build": build}}


def import_config(function: Function) -> Raw:
    """The function as one that only waits (PrepareFunctionForExport's annotations)."""
    raw = user_config(function)
    metadata = raw.setdefault("metadata", {})
    metadata["annotations"] = {
        **user_annotations(metadata.get("annotations", {})),
        "skip-build": "true",
        "skip-deploy": "true",
    }
    return raw


def _split_registry(image: str, registry: str) -> tuple[str, str]:
    """The reference as the nodes have it, and the registry in it."""
    registry = registry.rstrip("/")
    own = registry_of(image)
    if not registry or image.startswith(f"{registry}/"):
        return image, registry or own
    rest = image.removeprefix(f"{own}/") if own else image
    return f"{registry}/{rest}", registry


def _processor_variable(function: Function) -> Raw:
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
