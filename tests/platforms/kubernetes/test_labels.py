"""Labels and annotations of a revision, and their validation."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest

from fnbuild.errors import InputError
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw
from fnbuild.platforms.kubernetes.labels import (
    CONFIG,
    MANAGED_BY,
    PROCESSOR,
    STAMP,
    KubernetesKey,
    validated_key,
)
from fnbuild.platforms.kubernetes.manifests.rendering import render_manifests
from fnbuild.platforms.kubernetes.revision_record import RevisionRecord, recorded_config
from tests.platforms.kubernetes import samples


def deployment(revision: RevisionRecord) -> Raw:
    manifests = render_manifests(revision, samples.render_context(revision.function))
    return next(manifest for manifest in manifests if manifest["kind"] == "Deployment")


def annotated(annotations: dict[str, str]) -> Function:
    metadata = {"name": "greeter", "namespace": "nuclio", "annotations": annotations}
    return function_from_dict({"metadata": metadata}, "greeter")


def test_the_key_of_a_function() -> None:
    key = validated_key(samples.function("greeter"))
    assert (key, str(key), key.object_name) == (
        KubernetesKey("fnbuild-test", "greeter"),
        "fnbuild-test/greeter",
        "nuclio-greeter",
    )


@pytest.mark.parametrize(
    ("namespace", "name", "text", "hint"),
    [
        ("nuclio", "YOLO_v8.n", "'YOLO_v8.n' cannot be a function name", "'yolo-v8-n'"),
        ("nuclio", "-a", "'-a' cannot be", "'a'"),
        ("nuclio", "", "'' cannot be a function name", "'face-detector'"),
        ("My space", "a", "'My space' cannot be a namespace", "'my-space'"),
        ("nuclio", "a" * 58, "has 58 characters; in Kubernetes it may have 56", "by 2"),
        ("n" * 64, "a", "has 64 characters; in Kubernetes it may have 63", "by 1"),
    ],
)
def test_invalid_names_are_refused(namespace: str, name: str, text: str, hint: str) -> None:
    with pytest.raises(InputError, match=text) as caught:
        validated_key(
            function_from_dict({"metadata": {"name": name, "namespace": namespace}}, "it")
        )
    assert caught.value.hint is not None
    assert hint in caught.value.hint
    validated_key(function_from_dict({"metadata": {"name": "a" * 56, "namespace": "n" * 63}}, "it"))


@pytest.mark.parametrize(
    ("labels", "text"),
    [
        ({"team": "two words"}, r"metadata\.labels\.team: 'two words' is no label's value"),
        ({"team": "x" * 64}, r"metadata\.labels\.team: 'x+' is no label's value"),
        ({"my team": "a"}, r"metadata\.labels: 'my team' is no label's key"),
        ({"UPPER.org/team": "a"}, "is no label's key"),
    ],
)
def test_invalid_labels_are_refused(labels: dict[str, str], text: str) -> None:
    with pytest.raises(InputError, match=text):
        samples.revision(samples.function(labels=labels)).labels()


def test_labels_of_fnbuild_take_precedence() -> None:
    user_labels = {"nuclio.io/class": "mine", MANAGED_BY: "helm", "team": "vision"}
    labels = samples.revision(samples.function(labels=user_labels)).labels()
    assert labels["nuclio.io/class"] == "function"
    assert labels[MANAGED_BY] == "fnbuild"
    assert labels["team"] == "vision"


def test_invalid_annotations_are_refused() -> None:
    invalid = samples.revision(annotated({"a note": "x"}))
    with pytest.raises(InputError, match=r"metadata\.annotations: 'a note' is no annotation's key"):
        invalid.pod_annotations({})
    fits = samples.revision(annotated({"spec": "x" * (250 << 10)}))
    assert len(fits.pod_annotations({})["spec"]) == 250 << 10
    assert fits.annotations()
    too_long = samples.revision(annotated({"spec": "x" * (260 << 10), "help": "x"}))
    with pytest.raises(InputError, match=r"takes 260 KiB .* takes 256; the largest .* 'spec'"):
        too_long.pod_annotations({})
    with pytest.raises(InputError, match=r"takes 260 KiB .* takes 256"):
        too_long.annotations()


def test_annotations_of_fnbuild_take_precedence() -> None:
    revision = samples.revision(annotated({PROCESSOR: "theirs", "type": "detector"}))
    annotations = revision.pod_annotations({"a": 1})
    assert json.loads(revision.annotations()[CONFIG]) == revision.config
    assert annotations[PROCESSOR] == '{"a":1}'
    assert annotations["type"] == "detector"


def test_the_order_of_keys_does_not_matter() -> None:
    first = samples.revision(annotated({"a": "1", "b": "2"}))
    second = samples.revision(annotated({"b": "2", "a": "1"}))
    assert first.annotations() == second.annotations()


def test_the_recorded_configuration_is_reduced() -> None:
    raw: dict[str, Any] = {
        "metadata": {"name": "a", "resourceVersion": "77"},
        "spec": {
            "handler": "main:handler",
            "imageHash": "123",
            "build": {"timestamp": 5, "functionSourceCode": "x" * 100},
        },
        "status": {"state": "ready"},
    }
    assert recorded_config(function_from_dict(raw, "a")) == {
        "metadata": {"name": "a"},
        "spec": {"handler": "main:handler", "build": {"functionSourceCode": "x" * 100}},
    }
    raw["spec"]["build"]["functionSourceCode"] = "x" * (65 << 10)
    assert recorded_config(function_from_dict(raw, "a"))["spec"] == {"handler": "main:handler"}


def test_a_record_contains_the_whole_revision() -> None:
    plain = samples.revision(samples.function(env=[{"name": "A", "value": "b"}]), note="by hand")
    failed = replace(plain.with_failure("x" * 99999), overlap=True, stamp="now")
    for revision in (plain, failed):
        assert RevisionRecord.from_json(revision.to_json()) == revision
    assert failed.failed
    assert len(failed.failure) == 16 << 10
    assert not plain.failed


def test_a_record_has_the_keys_of_earlier_releases_before_newer_ones() -> None:
    stored = json.loads(samples.revision(samples.function()).to_json())
    assert " ".join(stored) == (
        "key number created digest image pinned config source note stamp overlap failure state"
        " owner pod_revision"
    )


@pytest.mark.parametrize("text", ["", "[]", "{}", "null", '{"key": ["a", "b"]}', '{"key": "abc"}'])
def test_an_unreadable_record_is_ignored(text: str) -> None:
    assert RevisionRecord.from_json(text) is None


def test_a_record_of_a_later_release_is_read() -> None:
    revision = samples.revision(samples.function())
    later = json.dumps(json.loads(revision.to_json()) | {"something": "new"})
    assert RevisionRecord.from_json(later) == revision


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"pinned": ""},
        {"pinned": "", "stamp": "again"},
        {"stamp": "again", "note": "back to 3", "source": 3},
        {"overlap": True},
    ],
)
@pytest.mark.parametrize("policy", ["", "Always", "IfNotPresent"])
def test_the_revision_is_read_from_its_deployment(values: dict[str, Any], policy: str) -> None:
    function = samples.function(
        resources={"limits": {"nvidia.com/gpu": "1"}}, imagePullPolicy=policy
    )
    revision = samples.revision(function, **values)
    assert RevisionRecord.from_deployment(deployment(revision)) == revision


def test_a_mutable_image_is_stamped_with_its_code() -> None:
    """Otherwise new code would have the same pod template, and no pods would start."""
    function = samples.function()

    def stamp(**values: Any) -> str:
        template = deployment(samples.revision(function, **values))["spec"]["template"]
        return str(template["metadata"]["annotations"].get(STAMP, ""))

    assert stamp(pinned="") == samples.DIGEST
    assert stamp(pinned="", digest="other") == "other"
    assert stamp() == stamp(digest="other") == ""
    assert stamp(stamp="again") == stamp(stamp="again", pinned="") == "again"


def test_a_deployment_from_a_file_has_no_number() -> None:
    """A user may apply the manifests to another namespace, for example with kustomize."""
    live = deployment(samples.revision(samples.function()))
    live["metadata"]["namespace"] = "elsewhere"
    config = live["metadata"]["annotations"][CONFIG]
    live["metadata"]["annotations"] = {CONFIG: config}
    revision = RevisionRecord.from_deployment(live)
    assert revision is not None
    assert (revision.key, revision.number, revision.source) == (
        KubernetesKey("elsewhere", "greeter"),
        0,
        0,
    )
    assert revision.function.metadata.namespace == "elsewhere"
    assert revision.image == revision.pinned == samples.PINNED.format("greeter")


def test_foreign_deployments_have_no_revision() -> None:
    live = deployment(samples.revision(samples.function()))
    foreign = json.loads(json.dumps(live))
    foreign["metadata"]["labels"][MANAGED_BY] = "helm"
    assert RevisionRecord.from_deployment(foreign) is None
    for text in ("", "[]", "{"):
        live["metadata"]["annotations"][CONFIG] = text
        assert RevisionRecord.from_deployment(live) is None
