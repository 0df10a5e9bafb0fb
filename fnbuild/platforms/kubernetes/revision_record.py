"""The record of a revision, in the annotations of its Deployment or as JSON in a ConfigMap."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace

from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms import Artifact, revision_records
from fnbuild.platforms.kubernetes import labels
from fnbuild.platforms.kubernetes.labels import (
    KubernetesKey,
    canonical_json,
    is_valid_label_value,
    parse_int,
    parse_object,
    section,
    validate_annotations,
    validate_labels,
)
from fnbuild.platforms.settings import GPU_RESOURCE

_MAX_SOURCE_BYTES = 64 << 10
_DIGEST_LENGTH = 12
_MAX_MESSAGE_LENGTH = 16 << 10


@dataclass(frozen=True, slots=True)
class RevisionRecord:
    """A revision, as its Deployment and the ConfigMap store it.

    `image` is the user's image name, `pinned` an exact reference of the same image or "". `source`
    is the revision with the same code. A new `stamp` restarts the pods. With `overlap`, old and
    new pods may hold GPUs at the same time. `failure` is the reason why the revision does not
    serve, in state `state`. `owner` has deployed it. `pod_revision` is the revision that started
    the pods, or 0 if they do not know it: one that leaves the pods running keeps that of the
    revision before. The names of the fields are keys of the stored JSON.
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
    pod_revision: int = 0

    @property
    def failed(self) -> bool:
        return bool(self.state)

    @property
    def function(self) -> Function:
        return function_from_dict(self.config, f"{self.key.name} revision {self.number}")

    @property
    def artifact(self) -> Artifact:
        return Artifact("image", self.image, self.digest, pinned=self.pinned)

    @property
    def image_reference(self) -> str:
        """The image reference of the container."""
        return self.pinned or self.image

    def with_failure(self, message: str) -> RevisionRecord:
        """Return the record of a revision that did not become ready."""
        return replace(self, state="error", failure=message[:_MAX_MESSAGE_LENGTH])

    def to_json(self) -> str:
        """Return the JSON that is stored in the ConfigMap."""
        return json.dumps(asdict(self), separators=(",", ":"))

    @classmethod
    def from_json(cls, text: str) -> RevisionRecord | None:
        """Return the record from its JSON, or None: an invalid record must not hide the others."""
        try:
            values = json.loads(text)
            values["key"] = KubernetesKey(*values["key"])
            return cls(**{name: values[name] for name in cls.__slots__ if name in values})
        except (ValueError, TypeError, KeyError):
            return None

    @classmethod
    def from_deployment(cls, deployment: Raw | None) -> RevisionRecord | None:
        """Return the revision of a Deployment; None if fnbuild does not manage it, or without one.

        `number` is 0 for a Deployment that was applied from a file.
        """
        if deployment is None:
            return None
        metadata = section(deployment, "metadata")
        own_labels = section(metadata, "labels")
        annotations = section(metadata, "annotations")
        template = deployment["spec"]["template"]
        config = parse_object(annotations.get(labels.CONFIG, ""))
        if own_labels.get(labels.MANAGED_BY) != labels.MANAGER or not config:
            return None
        key = KubernetesKey(metadata.get("namespace", ""), own_labels.get(labels.FUNCTION, ""))
        # A Deployment applied from a file may be in another namespace than the file's author had.
        config["metadata"] = {**section(config, "metadata"), "namespace": key.namespace}
        revision = parse_int(annotations, labels.REVISION)
        digest = annotations.get(labels.DIGEST, "")
        image, pinned = _image_references(annotations, template["spec"], config)
        pod_annotations = section(template, "metadata", "annotations")
        return cls(
            key=key,
            number=revision,
            created=annotations.get(labels.CREATED, ""),
            digest=digest,
            image=image,
            pinned=pinned,
            config=config,
            source=parse_int(annotations, labels.SOURCE_REVISION) or revision,
            note=annotations.get(labels.NOTE, ""),
            stamp=_stamp(pod_annotations, digest),
            overlap=_allows_overlap(annotations, config, deployment["spec"]),
            owner=annotations.get(labels.OWNER, ""),
            pod_revision=_pod_revision(pod_annotations),
        )

    def annotations(self) -> dict[str, str]:
        """Return the annotations of the Deployment. Raises `InputError` if they are too long."""
        optional = {
            labels.REVISION: str(self.number) if self.number else "",
            labels.CREATED: self.created,
            labels.SOURCE_REVISION: str(self.source) if self.source else "",
            labels.NOTE: self.note,
            labels.OWNER: self.owner,
            labels.DIGEST: self.digest,
            labels.IMAGE: self.image,
            labels.CONFIG: canonical_json(self.config),
        }
        result = {name: text for name, text in optional.items() if text}
        result[labels.PINNED] = self.pinned
        validate_annotations(result, internal=(labels.CONFIG,))
        return result

    def labels(self) -> dict[str, str]:
        """Return the labels of all objects and pods. Raises `InputError` for invalid ones."""
        user_labels = section(self.config, "metadata", "labels")
        project = user_labels.get(labels.PROJECT) or "default"
        recommended = {
            f"{labels.RECOMMENDED_PREFIX}/name": self.key.name,
            f"{labels.RECOMMENDED_PREFIX}/instance": self.key.object_name,
            f"{labels.RECOMMENDED_PREFIX}/component": "function",
            f"{labels.RECOMMENDED_PREFIX}/part-of": project,
        }
        if version := self._version:
            recommended[f"{labels.RECOMMENDED_PREFIX}/version"] = version
        result = {labels.PROJECT: "default"} | recommended | user_labels | self.key.pod_selector
        result[labels.MANAGED_BY] = labels.MANAGER
        validate_labels(result)
        return result

    @property
    def _version(self) -> str:
        """The digest of the code, or without one the image's tag; "" if that is no valid label.

        The revision number would restart the pods of an unchanged function.
        """
        if self.digest:
            return self.digest[:_DIGEST_LENGTH]
        tag = self.image.rpartition("/")[2].partition("@")[0].partition(":")[2]
        return tag if is_valid_label_value(tag) else ""

    def metadata(self, annotations: Mapping[str, str] | None = None, name: str = "") -> Raw:
        """Return the metadata of an object."""
        metadata: Raw = {
            "name": name or self.key.object_name,
            "namespace": self.key.namespace,
            "labels": self.labels(),
        }
        return metadata | ({"annotations": dict(annotations)} if annotations else {})

    def pod_annotations(self, processor: Raw) -> dict[str, str]:
        """Return the annotations of the pods: the user's and the processor's settings.

        They depend on the function only, so that an unchanged deploy restarts no pod. The digest of
        the code is added if the image reference is not exact. Raises `InputError` for annotations
        that Kubernetes rejects.
        """
        user_annotations = section(self.config, "metadata", "annotations")
        stamp = self.stamp or ("" if self.pinned else self.digest)
        result = {
            **user_annotations,
            labels.PROCESSOR: canonical_json(processor),
            **({labels.STAMP: stamp} if stamp else {}),
        }
        validate_annotations(result, internal=(labels.PROCESSOR,))
        return result


def recorded_config(function: Function) -> Raw:
    """Return the configuration to record, without secrets and fields that differ between deploys.

    Inline code that is too long is omitted; the image contains it.
    """
    config = revision_records.stored_config(function)
    metadata, spec = dict(section(config, "metadata")), dict(section(config, "spec"))
    build = dict(section(spec, "build"))
    metadata.pop("resourceVersion", None)
    spec.pop("imageHash", None)
    build.pop("timestamp", None)
    if len(build.get("functionSourceCode", "")) > _MAX_SOURCE_BYTES:
        del build["functionSourceCode"]
    if build:
        spec["build"] = build
    else:
        spec.pop("build", None)
    return {**config, "metadata": metadata, "spec": spec}


def _image_references(annotations: Raw, pod: Raw, config: Raw) -> tuple[str, str]:
    """Return the user's image name and the exact reference, if there is one.

    Only a Deployment that was applied from a file lacks the annotations; its container has both.
    """
    container = _function_container(pod)
    running = str(container.get("image", ""))
    image = str(annotations.get(labels.IMAGE) or running)
    if labels.PINNED in annotations:
        return image, str(annotations[labels.PINNED])
    chosen = section(config, "spec").get("imagePullPolicy")
    exact = bool(container) and not chosen and container.get("imagePullPolicy") != "Always"
    return image, running if exact or running != image or "@" in running else ""


def image_of(deployment: Raw) -> str:
    """Return the image of the function's container in the pod template, or ""."""
    return str(_function_container(deployment["spec"]["template"]["spec"]).get("image", ""))


def _function_container(pod: Raw) -> Raw:
    containers: list[Raw] = pod.get("containers") or []
    return next(
        (container for container in containers if container.get("name") == labels.CONTAINER), {}
    )


def _stamp(annotations: Raw, digest: str) -> str:
    stamp: str = annotations.get(labels.STAMP, "")
    return "" if stamp == digest else stamp


def _pod_revision(annotations: Raw) -> int:
    function = section(parse_object(annotations.get(labels.PROCESSOR, "")), "function")
    number = function.get("revision")
    return number if isinstance(number, int) else 0


def _allows_overlap(annotations: Raw, config: Raw, spec: Raw) -> bool:
    """Return True if the user asked for a replacement without a gap despite a GPU."""
    if annotations.get(labels.OVERLAP) == "false":
        return False  # set by a rollout without a gap: see `rollout.replacement`
    chosen = section(config, "spec").get("deploymentStrategy")
    if chosen or section(spec, "strategy").get("type") == "Recreate":
        return False
    return bool(section(config, "spec", "resources", "limits").get(GPU_RESOURCE))
