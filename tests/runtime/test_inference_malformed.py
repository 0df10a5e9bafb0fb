"""Requests that hypothesis makes: each is answered, or refused as the client's mistake."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fnbuild.runtime.protocols.tensors import DATATYPES
from tests.runtime.conftest import running

pytestmark = pytest.mark.system

HANDLER = "def handler(context, event):\n    return str(type(event.body))\n"
INPUT = {"name": "input-0", "datatype": "FP32", "shape": [-1, 2], "field": "x"}


@pytest.fixture(scope="module")
def processors(tmp_path_factory: pytest.TempPathFactory) -> Iterator[list[Any]]:
    """Processors with the default mapping, with a declared one, and with whole requests."""
    from contextlib import ExitStack

    mappings: list[dict[str, Any]] = [{}, {"inputs": [INPUT]}, {"event": "request"}]
    with ExitStack() as stack:
        yield [
            stack.enter_context(
                running(
                    tmp_path_factory.mktemp("malformed"),
                    HANDLER,
                    trigger={"attributes": {"protocols": ["v1", "v2"], "model": "m", **mapping}},
                )
            )
            for mapping in mappings
        ]


def check(processor: Any, path: str, body: bytes, **headers: str) -> None:
    answer = processor.send(body, path, **headers)
    value = json.loads(answer.body)
    if answer.status != 200:
        assert answer.status == 400, (body, answer)
        assert list(value) == ["error"]
        assert isinstance(value["error"], str)


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("QUJD")
)
values = st.recursive(
    scalars,
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(
            st.sampled_from(["image", "data", "b64", "instances", "inputs", "name"]),
            inner,
            max_size=3,
        ),
    ),
    max_leaves=8,
)
sizes = st.one_of(st.integers(0, 4), values)
tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.one_of(st.sampled_from(["input-0", "y"]), values),
        "datatype": st.one_of(st.sampled_from(DATATYPES), values),
        "shape": st.one_of(st.lists(sizes, max_size=3), values),
        "data": st.one_of(st.lists(scalars, max_size=4), values),
        "parameters": st.one_of(
            st.fixed_dictionaries({"binary_data_size": st.one_of(st.integers(-1, 20), values)}),
            values,
        ),
    },
)
requests = st.fixed_dictionaries(
    {"inputs": st.one_of(st.lists(tensors, max_size=3), values)},
    optional={"id": values, "parameters": values, "outputs": values},
)
example_limit = settings(
    max_examples=250,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


@example_limit
@given(value=st.one_of(values, st.fixed_dictionaries({"instances": values})), at=st.integers(0, 2))
def test_v1(processors: list[Any], value: Any, at: int) -> None:
    check(processors[at], "/v1/models/m:predict", json.dumps(value).encode())


@example_limit
@given(value=requests, data=st.binary(max_size=24), at=st.integers(0, 2), binary=st.booleans())
def test_v2(processors: list[Any], value: Any, data: bytes, at: int, binary: bool) -> None:
    head = json.dumps(value).encode()
    headers = {"Inference_Header_Content_Length": str(len(head))} if binary else {}
    check(processors[at], "/v2/models/m/infer", head + (data if binary else b""), **headers)


@example_limit
@given(
    body=st.binary(max_size=60),
    length=st.one_of(
        st.none(), st.integers(-5, 80).map(str), st.text("0123456789x\xb2", max_size=4)
    ),
    path=st.sampled_from(["/v1/models/m:predict", "/v2/models/m/infer"]),
    at=st.integers(0, 2),
)
def test_bytes(processors: list[Any], body: bytes, length: str | None, path: str, at: int) -> None:
    headers = {} if length is None else {"Inference_Header_Content_Length": length}
    check(processors[at], path, body, **headers)
