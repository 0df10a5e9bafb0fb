"""The forms of the same request."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
import tritonclient.http as triton

from bench.catalog import load_catalog
from bench.forms import FORMS, Content
from bench.workloads import PROTOCOLS, Payload, Workload
from fnbuild.runtime.grpc_server import proto

JPEG = b"\xff\xd8\xff and more"
REPLY = {"shape": [1, 2, 3]}


def test_v1_has_the_file_as_an_instance() -> None:
    _, body = FORMS["v1"].encode(Content(JPEG))
    (instance,) = json.loads(body)["instances"]
    assert base64.b64decode(instance["image"]["b64"]) == JPEG
    assert FORMS["v1"].read({"predictions": [REPLY]}) == REPLY


@pytest.mark.parametrize(("content", "element"), [(Content(JPEG), True), (Content(b"1234"), False)])
def test_v2_has_the_body_and_the_header_of_tritons_client(content: Content, element: bool) -> None:
    content = content if element else Content(content.data, True)
    headers, body = FORMS["v2"].encode(content)
    tensor = triton.InferInput(**{**content.tensor, "datatype": content.tensor["datatype"]})
    data = base64.b64encode(JPEG) if element else content.data
    tensor.set_data_from_numpy(_array(data, element))
    expected, size = triton.InferenceServerClient.generate_request_body([tensor])
    ours = int(dict(headers)["Inference-Header-Content-Length"])
    assert body[ours:] == expected[size:]
    assert json.loads(body[:ours])["inputs"] == json.loads(expected[:size])["inputs"]
    value = {"outputs": [{"data": [json.dumps(REPLY)]}]}
    assert FORMS["v2"].read(value) == REPLY


def _array(data: bytes, element: bool) -> Any:
    import numpy

    if element:
        return numpy.array([data], dtype=object)
    return numpy.frombuffer(data, "<f4").reshape(1, -1)


def test_grpc_has_the_file_in_raw_contents() -> None:
    _, body = FORMS["grpc"].encode(Content(JPEG))
    message = proto.message_class("ModelInferRequest").FromString(body)
    assert message.raw_input_contents[0][4:] == JPEG
    answer = proto.message_class("ModelInferResponse")()
    answer.outputs.add(name="predictions").contents.bytes_contents.append(
        json.dumps(REPLY).encode()
    )
    assert FORMS["grpc"].read(answer.SerializeToString()) == REPLY


def test_servers_take_part_in_the_workloads_that_they_have_a_form_for() -> None:
    servers = load_catalog().servers
    workload = Workload("v1", (Payload(b"{}", REPLY),), contents=(Content(JPEG),))
    parts = {name: workload.for_server(server) for name, server in servers.items()}
    forms = {name: part.form for name, part in parts.items() if part}
    assert forms == {
        "limit": "plain",
        "fnbuild": "v1",
        "kserve": "v1",
        "kserve-1": "v1",
        "torchserve": "plain",
        "torchserve-v1": "v1",
    }
    classic = Workload("echo", (Payload(b"{}", REPLY),))
    assert classic.for_server(servers["kserve-1"]) is None
    assert classic.for_server(servers["flask"]) is classic
    for server in servers.values():
        assert set(server.forms) <= set(PROTOCOLS)
