"""The mapping of tensors to fields, as attributes of a trigger."""

from __future__ import annotations

from typing import Any

import pytest

from fnbuild.runtime.protocols.mapping import get_field, mapping_problems, read_model, set_field

FUNCTION = {"name": "face", "revision": 3}


def model(**attributes: Any) -> Any:
    return read_model({"protocols": ["v2"], **attributes}, FUNCTION)


def test_without_protocols_there_is_no_model() -> None:
    assert read_model({"model": "x"}, FUNCTION) is None
    assert read_model({"protocols": []}, FUNCTION) is None


def test_defaults() -> None:
    read = model()
    assert (read.name, read.version, read.takes_requests) == ("face", "3", False)
    assert read_model({"protocols": ["v1"]}, {"name": "f", "revision": 0}).version == ""
    (image,), (predictions,) = read.metadata({})["inputs"], read.metadata({})["outputs"]
    assert image == {"name": "image", "datatype": "BYTES", "shape": [-1]}
    assert predictions == {"name": "predictions", "datatype": "BYTES", "shape": [-1]}


def test_a_declared_mapping() -> None:
    read = model(
        model="other",
        event="request",
        inputs=[{"name": "input-0", "datatype": "FP32", "shape": [-1, 4], "field": "a.b"}],
        outputs=[
            {"name": "scores", "datatype": "FP64", "field": "[].score"},
            {"name": "a.b", "datatype": "BYTES"},
        ],
    )
    assert (read.name, read.takes_requests) == ("other", True)
    assert read.inputs[0].field == ("a", "b")
    assert read.inputs[0].batched
    scores, dotted = read.outputs
    assert get_field([{"score": 1}, {"score": 2}], scores.field) == [1, 2]
    assert get_field({"a.b": 5}, dotted.field) == 5
    assert read.metadata({})["inputs"] == [
        {"name": "input-0", "datatype": "FP32", "shape": [-1, 4]}
    ]


def test_fields() -> None:
    read = model(
        outputs=[
            {"name": str(i), "datatype": "BYTES", "field": field}
            for i, field in enumerate([".", "a", "a.b", "[1].x", "a[].b[0]", "[]"])
        ]
    )
    whole, key, nested, index, each, items = (output.field for output in read.outputs)
    assert get_field(5, whole) == 5
    assert get_field({"a": 1}, key) == 1
    assert get_field({"a": {"b": 2}}, nested) == 2
    assert get_field([{}, {"x": 3}], index) == 3
    assert get_field({"a": [{"b": [4]}, {"b": [5]}]}, each) == [4, 5]
    assert get_field([6, 7], items) == [6, 7]
    for path, body in ((key, {}), (key, []), (index, [{}]), (each, {"a": 5})):
        with pytest.raises((LookupError, TypeError)):
            get_field(body, path)
    body: dict[str, Any] = {}
    set_field(body, ("a", "b"), 1)
    assert body == {"a": {"b": 1}}


TENSOR = {"name": "x", "datatype": "FP32"}


@pytest.mark.parametrize(
    ("attributes", "path", "message"),
    [
        ({"protocols": "v1"}, ("protocols",), "protocols is a list of v1, v2, grpc"),
        ({"protocols": ["v1", "v3"]}, ("protocols", 1), "'v3' is not one of the protocols"),
        ({"model": "a/b"}, ("model",), "'a/b' is not a model's name"),
        ({"model": 5}, ("model",), "5 is not a model's name"),
        ({"event": "batch"}, ("event",), "'batch' is not instance or request"),
        ({"inputs": {}}, ("inputs",), "inputs is a list of tensors"),
        ({"inputs": ["x"]}, ("inputs", 0), "a tensor has a name"),
        ({"inputs": [{}]}, ("inputs", 0), "the tensor has no name"),
        ({"inputs": [TENSOR, TENSOR]}, ("inputs", 1, "name"), "the name of another tensor"),
        ({"outputs": [{**TENSOR, "datatype": "BF16"}]}, ("outputs", 0, "datatype"), "'BF16'"),
        ({"inputs": [{"name": "x"}]}, ("inputs", 0), "the tensor has no datatype"),
        ({"outputs": [{**TENSOR, "dtype": 1}]}, ("outputs", 0, "dtype"), "no key 'dtype'"),
        ({"outputs": [{**TENSOR, "shape": [-2]}]}, ("outputs", 0, "shape"), "not a shape"),
        ({"outputs": [{**TENSOR, "shape": 5}]}, ("outputs", 0, "shape"), "not a shape"),
        ({"outputs": [{**TENSOR, "shape": [True]}]}, ("outputs", 0, "shape"), "not a shape"),
        ({"outputs": [{**TENSOR, "field": "a..b"}]}, ("outputs", 0, "field"), "not a path"),
        ({"outputs": [{**TENSOR, "field": 5}]}, ("outputs", 0, "field"), "5 is not a path"),
        ({"inputs": [{**TENSOR, "field": "[].a"}]}, ("inputs", 0, "field"), "not a path"),
        ({"inputs": [{**TENSOR, "field": "."}]}, ("inputs", 0, "field"), "not a path"),
    ],
)
def test_invalid_attributes(attributes: Any, path: Any, message: str) -> None:
    problems = mapping_problems(attributes)
    assert problems[0].path == path
    assert message in problems[0].message
    with pytest.raises(ValueError, match="attributes"):
        read_model(attributes, FUNCTION)
