"""The choice of a serving runtime: KServe's order, and errors that name what is missing."""

from __future__ import annotations

import re

import pytest

from fnbuild.errors import PreconditionError
from fnbuild.platforms.kserve.selection import (
    ModelRequest,
    Selection,
    runtime_conflicts,
    select_runtime,
)
from tests.platforms.kserve.samples import runtime, supported

SKLEARN = runtime("kserve-sklearnserver", supported("sklearn", "1", priority=1),
                  protocolVersions=["v1", "v2"])  # fmt: skip
MLSERVER = runtime("kserve-mlserver", supported("sklearn", "1", priority=2),
                   protocolVersions=["v2"])  # fmt: skip
TRITON = runtime(
    "kserve-tritonserver", supported("onnx", "1"), {"name": "pytorch", "version": "1"},
    protocolVersions=["v2", "grpc-v2"],
)  # fmt: skip
TORCHSERVE = runtime("kserve-torchserve", supported("pytorch", "1", priority=2),
                     protocolVersions=["v1", "v2", "grpc-v2"])  # fmt: skip
CLUSTER = [SKLEARN, MLSERVER, TRITON, TORCHSERVE]
OWN = runtime("example-runtime", supported("sklearn", "1"), namespace="ns")


def choose(
    model_format: str, *namespaced: dict[str, object], cluster: object = CLUSTER, **request: str
) -> Selection:
    return select_runtime(ModelRequest(model_format, **request), namespaced, cluster)


def name_of(selection: Selection) -> str:
    return selection.runtime.name


def test_an_unset_protocol_counts_as_v1() -> None:
    assert name_of(choose("sklearn")) == "kserve-sklearnserver"
    assert name_of(choose("sklearn", protocol="v2")) == "kserve-mlserver"


def test_a_runtime_for_v2_only_needs_the_protocol() -> None:
    with pytest.raises(
        PreconditionError, match="no serving runtime takes the format onnx"
    ) as error:
        choose("onnx")
    assert "`protocolVersion: v2`" in error.value.hint
    assert name_of(choose("onnx", protocol="v2")) == "kserve-tritonserver"


def test_the_namespace_goes_before_the_cluster_whatever_the_priority() -> None:
    selection = choose("sklearn", OWN)
    assert name_of(selection) == "example-runtime"
    assert "of the namespace" in selection.explanation


def test_without_auto_select_a_runtime_is_taken_by_name_only() -> None:
    assert name_of(choose("pytorch")) == "kserve-torchserve"
    named = choose("pytorch", runtime="kserve-tritonserver")
    assert name_of(named) == "kserve-tritonserver"
    with pytest.raises(PreconditionError) as error:
        choose("pytorch", cluster=[TRITON])
    assert "`runtime: kserve-tritonserver`" in error.value.hint


def test_the_highest_priority_wins_and_none_is_the_lowest() -> None:
    low, high, none = (
        runtime(name, supported("tensorflow", "1", **fields))
        for name, fields in (("low", {"priority": 1}), ("high", {"priority": 3}), ("none", {}))
    )
    selection = choose("tensorflow", cluster=[none, low, high])
    assert name_of(selection) == "high"
    assert "goes before low, none: priority 3 over 1" in selection.explanation


def test_openvino_takes_tensorflow_models_where_it_is_installed() -> None:
    serving = runtime("kserve-tensorflow-serving", supported("tensorflow", "1", priority=2),
                      protocolVersions=["v1", "grpc-v1"])  # fmt: skip
    openvino = runtime("kserve-openvino", supported("tensorflow", "1", priority=3))
    assert name_of(choose("tensorflow", cluster=[serving])) == "kserve-tensorflow-serving"
    selection = choose("tensorflow", cluster=[serving, openvino])
    assert name_of(selection) == "kserve-openvino"
    assert "priority 3 over 2" in selection.explanation


def test_equal_priorities_are_ordered_by_protocol_age_and_name() -> None:
    second = runtime("a-v2", supported("f"), protocolVersions=["v1", "v2"])
    any_protocol = runtime("a-any", supported("f"))
    older = runtime(
        "a-old", supported("f"), protocolVersions=["v1"], created="2025-01-01T00:00:00Z"
    )
    newer = runtime(
        "b-new", supported("f"), protocolVersions=["v1"], created="2026-01-01T00:00:00Z"
    )
    assert name_of(choose("f", cluster=[any_protocol, older, second, newer])) == "a-v2"
    assert name_of(choose("f", cluster=[any_protocol, older, newer])) == "b-new"
    assert name_of(choose("f", cluster=[any_protocol, older])) == "a-old"
    assert name_of(choose("f", cluster=[any_protocol])) == "a-any"


def test_versions_are_compared_as_text() -> None:
    assert name_of(choose("sklearn", version="1")) == "kserve-sklearnserver"
    with pytest.raises(PreconditionError) as error:
        choose("sklearn", version="1.0")
    assert "compared as text" in error.value.hint
    assert "1 in ClusterServingRuntime kserve-sklearnserver" in error.value.hint


def test_disabled_and_multi_model_runtimes_are_not_selected() -> None:
    disabled = runtime("off", supported("sklearn"), disabled=True)
    mesh = runtime("mesh", supported("sklearn"), multiModel=True)
    with pytest.raises(PreconditionError) as error:
        choose("sklearn", cluster=[disabled, mesh])
    assert "off is disabled" in error.value.hint
    assert "mesh is for several models" in error.value.hint


def test_a_named_runtime_is_looked_up_in_the_namespace_first() -> None:
    namespaced = runtime("shared", supported("sklearn", "1"), namespace="ns")
    cluster = runtime("shared", supported("sklearn", "1"))
    selection = choose("sklearn", namespaced, cluster=[cluster], runtime="shared")
    assert not selection.runtime.is_cluster_wide
    assert "goes before the ClusterServingRuntime" in selection.explanation
    assert choose("sklearn", cluster=[cluster], runtime="shared").runtime.is_cluster_wide


@pytest.mark.parametrize(
    ("own", "request_", "reason"),
    [
        ([], {"runtime": "missing"}, "RuntimeNotRecognized"),
        ([runtime("off", supported("sklearn"), disabled=True)], {"runtime": "off"},
         "RuntimeDisabled"),
        # The pair of seed 004 as written: both objects pass the schema.
        ([runtime("example-runtime", supported("example-format", "1"), namespace="ns")],
         {"runtime": "example-runtime"}, "NoSupportingRuntime"),
        ([], {"runtime": "kserve-mlserver", "protocol": "v1"}, "NoSupportingRuntime"),
    ],
)  # fmt: skip
def test_errors_name_the_reason_that_kserve_would_report(
    own: list[dict[str, object]], request_: dict[str, str], reason: str
) -> None:
    with pytest.raises(PreconditionError, match=rf"KServe: {re.escape(reason)}"):
        choose("sklearn", *own, **request_)


def test_an_unknown_format_lists_the_formats_of_this_cluster() -> None:
    with pytest.raises(PreconditionError) as error:
        choose("sklearm")
    assert "kserve-sklearnserver (sklearn:1)" in error.value.hint
    with pytest.raises(PreconditionError) as empty:
        choose("sklearn", cluster=[])
    assert "no serving runtimes" in empty.value.hint


def test_equal_runtimes_of_one_scope_conflict() -> None:
    other = runtime("other", supported("sklearn", "1"), namespace="ns")
    [conflict] = runtime_conflicts(OWN, [other])
    assert "ServingRuntime other" in conflict
    different = [
        runtime("other", supported("sklearn", "1", priority=2), namespace="ns"),
        runtime("other", supported("sklearn", "2"), namespace="ns"),
        runtime("other", supported("sklearn", "1", autoSelect=False), namespace="ns"),
        runtime("other", supported("sklearn", "1"), namespace="ns", disabled=True),
        OWN,
    ]
    assert list(runtime_conflicts(OWN, different)) == []
    v1, v2 = (
        runtime(name, supported("sklearn"), namespace="ns", protocolVersions=[name])
        for name in ("v1", "v2")
    )
    assert list(runtime_conflicts(v1, [v2])) == []
