"""Names, labels and annotations of a function's objects, and the revision record in them.

Objects have Nuclio's names and labels (pkg/platform/kube/functionres/lazy.go), so that its tools
and CVAT's users find them, and annotations of fnbuild with everything that a later command needs.
The Deployment describes the active revision; a ConfigMap holds the older ones as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.names import PROJECT_LABEL
from fnbuild.platforms import base, revision_records
from fnbuild.platforms.settings import GPU_RESOURCE

_MAX_NAME_LENGTH = 63
_MAX_ANNOTATION_BYTES = 256 << 10
_DNS_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]*[a-z0-9])?")
_PART = r"[A-Za-z0-9]([A-Za-z0-9_.-]{0,61}[A-Za-z0-9])?"
_VALUE = re.compile(rf"({_PART})?")
_KEY = re.compile(rf"([a-z0-9]([a-z0-9.-]{{0,251}}[a-z0-9])?/)?{_PART}")


def validate_name(word: str, text: str, whole: str = "") -> None:
    """Raises `InputError` for what is no DNS label; `whole` is the longer name that it is part of.

    `word` says what it is the name of.
    """
    if not _DNS_LABEL.fullmatch(text):
        raise InputError(
            f"{text!r} cannot be a {word} in Kubernetes",
            hint=f"lower-case letters, digits and '-', as in {_suggest_name(text)!r}",
        )
    over = len(whole or text) - _MAX_NAME_LENGTH
    if over > 0:
        raise InputError(
            f"the {word} {text!r} has {len(text)} characters; in Kubernetes it may have"
            f" {len(text) - over}",
            hint=f"shorten it by {over}",
        )


def is_valid_namespace(text: str) -> bool:
    """Return True if a namespace can have this name."""
    return bool(_DNS_LABEL.fullmatch(text)) and len(text) <= _MAX_NAME_LENGTH


def is_valid_label_value(text: str) -> bool:
    """Return True if a label can have this value."""
    return bool(_VALUE.fullmatch(text))


def _suggest_name(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-") or "face-detector"


def validate_labels(labels: Mapping[str, str]) -> None:
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


def validate_annotations(annotations: Mapping[str, str], own: Collection[str]) -> None:
    """`own` are those that nobody wrote by hand."""
    for key in annotations:
        if not _KEY.fullmatch(key):
            raise InputError(
                f"metadata.annotations: {key!r} is no annotation's key in Kubernetes",
                hint="letters, digits, '-', '_' and '.', as in 'type' or 'example.org/type'",
            )
    sizes = {key: len(key.encode()) + len(text.encode()) for key, text in annotations.items()}
    total = sum(sizes.values())
    if total > _MAX_ANNOTATION_BYTES:
        given = {key: size for key, size in sizes.items() if key not in own}
        largest = max(given, key=lambda key: given[key], default="")
        what = f"; the largest of metadata.annotations is {largest!r}" if largest else ""
        raise InputError(
            f"the configuration takes {total >> 10} KiB as annotations of a pod, and Kubernetes"
            f" takes {_MAX_ANNOTATION_BYTES >> 10}{what}",
            hint="move long texts into files beside the handler; annotations count twice",
        )


def canonical_json(values: Raw) -> str:
    """JSON that is the same for the same values, whatever order somebody wrote them in."""
    return json.dumps(values, sort_keys=True, separators=(",", ":"), ensure_ascii=False)


def parse_object(text: str) -> Raw:
    """The JSON object of the text; empty for anything else."""
    try:
        value = json.loads(text)
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def section(values: Raw, *names: str) -> Raw:
    """A part of a configuration that nobody has checked; nothing where it is no object."""
    for name in names:
        found = values.get(name)
        values = found if isinstance(found, dict) else {}
    return values


def parse_int(values: Mapping[str, Any], name: str) -> int:
    """0 for nothing or for no number: one strange object must not hide the others."""
    text = str(values.get(name, ""))
    return int(text) if text.isdecimal() else 0


CONTAINER = "nuclio"
"""The name of the function's own container."""

# Labels of every object.
CLASS = "nuclio.io/class"
APP = "nuclio.io/app"
FUNCTION = "nuclio.io/function-name"
VERSION = "nuclio.io/function-version"
PROJECT = PROJECT_LABEL
_APP = "app.kubernetes.io"
MANAGED_BY = f"{_APP}/managed-by"
MANAGER = "fnbuild"
FNBUILD_SELECTOR = f"{CLASS}=function,{MANAGED_BY}={MANAGER}"
"""Selects what belongs to functions that fnbuild deployed."""

# Labels of what only records something: `imported`, `project`, `revisions`.
RECORD = "fnbuild.io/record"

# Annotations of the pods.
PROCESSOR = "fnbuild.io/processor"
STAMP = "nuclio.io/image-hash"

# Annotations of the Deployment. The function is not the pods': a change of what does not concern
# them, such as their number, must not start them anew. Nuclio has it here too.
CONFIG = "nuclio.io/function-config"
REVISION = "fnbuild.io/revision"
OWNER = "fnbuild.io/owner"
PINNED = "fnbuild.io/pinned"
OVERLAP = "fnbuild.io/overlap"
_DIGEST = "fnbuild.io/digest"
_IMAGE = "fnbuild.io/image"
_CREATED = "fnbuild.io/created"
_SOURCE = "fnbuild.io/source-revision"
_NOTE = "fnbuild.io/note"
REVISION_ANNOTATIONS = (REVISION, _CREATED, _SOURCE, _NOTE, OWNER, PINNED)
"""Those that tell when, by whom and of which very image; the rest follows from the function."""

_MAX_SOURCE_BYTES = 64 << 10
_DIGEST_LENGTH = 12
_MAX_MESSAGE_LENGTH = 16 << 10


class KubernetesKey(base.FunctionKey):
    """A function, and the names by which the cluster knows it."""

    __slots__ = ()

    @property
    def object(self) -> str:
        """The name of all its objects."""
        return f"nuclio-{self.name}"

    @property
    def selector(self) -> dict[str, str]:
        """The labels by which a Deployment knows its pods. They never change."""
        return {
            CLASS: "function",
            APP: "functionres",
            FUNCTION: self.name,
            VERSION: "latest",
        }


def key_of(function: Function) -> KubernetesKey:
    """Raises `InputError` for names that Kubernetes does not take."""
    key = KubernetesKey(function.metadata.namespace, function.metadata.name)
    validate_name("namespace", key.namespace)
    validate_name("function name", key.name, key.object)
    return key


def timestamp() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """One revision, as its Deployment and its record have it.

    `image` is the name that people know, `pinned` an exact reference of the same thing, "" when
    there is none; see `runs`. `source` is the revision whose code it is. `stamp` differs when a
    restart of the same thing was asked for; with `overlap` old and new pods may hold GPUs at the
    same time. `failure` says why it does not serve; its state is then `state`. `owner` is who
    deployed it.
    """

    key: KubernetesKey
    number: int
    created: str
    digest: str
    image: str
    pinned: str
    config: Raw
    source: int
    note: str = ""
    stamp: str = ""
    overlap: bool = False
    failure: str = ""
    state: str = ""
    owner: str = ""

    @property
    def failed(self) -> bool:
        return bool(self.state)

    @property
    def function(self) -> Function:
        return function_from_dict(self.config, f"{self.key.name} revision {self.number}")

    @property
    def runs(self) -> str:
        """The image's reference as the container has it."""
        return self.pinned or self.image

    def with_failure(self, message: str) -> RevisionRecord:
        """The revision as it is recorded when it did not become ready."""
        return replace(self, state="error", failure=message[:_MAX_MESSAGE_LENGTH])

    def to_json(self) -> str:
        """What the record has of it."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RevisionRecord | None:
        """The reverse; None for what nobody can read: it must not hide the others."""
        try:
            values = json.loads(text)
            values["key"] = KubernetesKey(*values["key"])
            return cls(**{name: values[name] for name in cls.__slots__ if name in values})
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def of_deployment(cls, deployment: Raw) -> RevisionRecord | None:
        """What a Deployment says of its revision; None when it is none of fnbuild's.

        `number` is 0 for one that somebody applied from a file.
        """
        metadata = deployment.get("metadata") or {}
        labels: Raw = metadata.get("labels") or {}
        annotations: Raw = metadata.get("annotations") or {}
        template = deployment["spec"]["template"]
        about: Raw = template["metadata"].get("annotations") or {}
        config = parse_object(annotations.get(CONFIG, ""))
        if labels.get(MANAGED_BY) != MANAGER or not config:
            return None
        key = KubernetesKey(metadata.get("namespace", ""), labels.get(FUNCTION, ""))
        # What was applied from a file may be in another namespace than the file's author had.
        config["metadata"] = {**section(config, "metadata"), "namespace": key.namespace}
        revision, digest = parse_int(annotations, REVISION), annotations.get(_DIGEST, "")
        image, pinned = _image_references(annotations, template["spec"], config)
        return cls(
            key=key,
            number=revision,
            created=annotations.get(_CREATED, ""),
            digest=digest,
            image=image,
            pinned=pinned,
            config=config,
            source=parse_int(annotations, _SOURCE) or revision,
            note=annotations.get(_NOTE, ""),
            stamp=_stamp(about, digest),
            overlap=_allows_overlap(annotations, config, deployment["spec"]),
            owner=annotations.get(OWNER, ""),
        )

    def annotations(self) -> dict[str, str]:
        """The Deployment's own. Raises `InputError` where they are too long."""
        given = {
            REVISION: str(self.number) if self.number else "",
            _CREATED: self.created,
            _SOURCE: str(self.source) if self.source else "",
            _NOTE: self.note,
            OWNER: self.owner,
            _DIGEST: self.digest,
            _IMAGE: self.image,
            CONFIG: canonical_json(self.config),
        }
        found = {name: text for name, text in given.items() if text}
        found[PINNED] = self.pinned
        validate_annotations(found, own=(CONFIG,))
        return found

    def labels(self) -> dict[str, str]:
        """Those of all its objects and pods. `InputError` for ones Kubernetes does not take."""
        given = (self.config.get("metadata") or {}).get("labels") or {}
        project = given.get(PROJECT) or "default"
        recommended = {
            f"{_APP}/name": self.key.name,
            f"{_APP}/instance": self.key.object,
            f"{_APP}/component": "function",
            f"{_APP}/part-of": project,
        }
        if version := self._version:
            recommended[f"{_APP}/version"] = version
        found = {PROJECT: "default"} | recommended | given | self.key.selector
        found[MANAGED_BY] = MANAGER
        validate_labels(found)
        return found

    @property
    def _version(self) -> str:
        """The code's digest, or the tag of an image from elsewhere; "" where neither is a label.

        The number of the revision would restart the pods of an unchanged function.
        """
        if self.digest:
            return self.digest[:_DIGEST_LENGTH]
        tag = self.image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        return tag if is_valid_label_value(tag) else ""

    def metadata(self, annotations: Mapping[str, str] | None = None, name: str = "") -> Raw:
        """Of one of its objects."""
        metadata: Raw = {
            "name": name or self.key.object,
            "namespace": self.key.namespace,
            "labels": self.labels(),
        }
        return metadata | ({"annotations": dict(annotations)} if annotations else {})

    def pod_annotations(self, processor: Raw) -> dict[str, str]:
        """The user's and the processor's settings.

        The same function has the same, so that deploying it again restarts nothing. A tag that may
        move says nothing of what it means: the code's digest stands beside it. Raises `InputError`
        for what Kubernetes does not take.
        """
        given = (self.config.get("metadata") or {}).get("annotations") or {}
        stamp = self.stamp or ("" if self.pinned else self.digest)
        found = {
            **given,
            PROCESSOR: canonical_json(processor),
            **({STAMP: stamp} if stamp else {}),
        }
        validate_annotations(found, own=(PROCESSOR,))
        return found


def recorded_config(function: Function) -> Raw:
    """The configuration as it is recorded: without secrets, and without what only tells one deploy
    from another, as exports have it. Code that is too long is left out: it is in the image anyway.
    """
    config = revision_records.stored_config(function)
    spec, build = (
        dict(config.get("spec") or {}),
        dict((config.get("spec") or {}).get("build") or {}),
    )
    metadata = dict(config.get("metadata") or {})
    metadata.pop("resourceVersion", None)
    spec.pop("imageHash", None)
    build.pop("timestamp", None)
    if len(build.get("functionSourceCode", "")) > _MAX_SOURCE_BYTES:
        del build["functionSourceCode"]
    spec = {**spec, "build": build} if build else {k: v for k, v in spec.items() if k != "build"}
    return {**config, "metadata": metadata, "spec": spec}


def _image_references(annotations: Raw, pod: Raw, config: Raw) -> tuple[str, str]:
    """The name that people know, and the exact reference where there is one.

    The pods' own image is asked only of what was applied from a file: it may be anybody's.
    """
    own = _function_container(pod)
    runs = str(own.get("image", ""))
    image = str(annotations.get(_IMAGE) or runs)
    if PINNED in annotations:
        return image, str(annotations[PINNED])
    chosen = section(config, "spec").get("imagePullPolicy")
    exact = bool(own) and not chosen and own.get("imagePullPolicy") != "Always"
    return image, runs if exact or runs != image or "@" in runs else ""


def image_of(deployment: Raw) -> str:
    """The image that the function's own container has in the pods' template; "" for none."""
    return str(_function_container(deployment["spec"]["template"]["spec"]).get("image", ""))


def _function_container(pod: Raw) -> Raw:
    found: list[Raw] = pod.get("containers") or []
    return next((one for one in found if one.get("name") == CONTAINER), {})


def _stamp(about: Raw, digest: str) -> str:
    stamp: str = about.get(STAMP, "")
    return "" if stamp == digest else stamp


def _allows_overlap(annotations: Raw, config: Raw, spec: Raw) -> bool:
    """A function with a GPU is replaced with a gap unless somebody asked for none."""
    if annotations.get(OVERLAP) == "false":
        return False  # a rollout without a gap is, or was, under way: see `replacing`
    given = section(config, "spec")
    if given.get("deploymentStrategy") or (spec.get("strategy") or {}).get("type") == "Recreate":
        return False
    return bool(section(given, "resources", "limits").get(GPU_RESOURCE))
