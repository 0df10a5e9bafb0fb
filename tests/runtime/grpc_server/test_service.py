"""The gRPC service of a real processor, called by grpcio and tritonclient."""

from __future__ import annotations

import json
import threading
import time

import grpc
import numpy
import pytest
import tritonclient.grpc
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from fnbuild.runtime.grpc_server import proto
from tests.runtime import interpreters
from tests.runtime.grpc_server import inference
from tests.runtime.grpc_server.inference import Client, number, request

pytestmark = pytest.mark.system

JPEG = b"\xff\xd8\xff\xe0 with \x00 bytes"
VERSIONS = ("3.6", "3.8", "3.13")


@pytest.fixture(scope="module")
def processor(serve_module):
    return serve_module(inference.ECHO, workers=2, **inference.settings())


@pytest.fixture
def client(processor):
    with Client(processor.grpc_target) as connected:
        yield connected


def predictions(answer):
    """The JSON of the tensor `predictions`, from its typed field."""
    return [json.loads(element) for element in answer.outputs[0].contents.bytes_contents]


@pytest.mark.versions
@pytest.mark.parametrize("version", VERSIONS)
def test_every_method_on_each_python(serve, version):
    if interpreters.find(version) is None:
        pytest.skip(f"there is no Python {version}")
    settings = inference.settings(version)
    processor = serve(inference.ECHO, version=version, **settings)
    with Client(processor.grpc_target) as client:
        assert client.call("ServerLive").live
        assert client.call("ServerReady").ready
        assert client.call("ServerMetadata").name == "fnbuild"
        assert client.call("ModelReady", name="echo").ready
        metadata = client.call("ModelMetadata", name="echo", version="7")
        assert (metadata.name, list(metadata.versions)) == ("echo", ["7"])
        assert [tensor.datatype for tensor in metadata.inputs] == ["BYTES"]
        answer = client.infer(number("x", 1.5))
        assert (answer.model_name, answer.model_version) == ("echo", "7")
        assert predictions(answer) == [{"keys": ["x"], "header": ""}]
        big = client.infer(request("x", "UINT8", [1, 8_000_000], bytes(8_000_000)))
        assert b'"x"' in big.raw_output_contents[0]
    # The handler has other packages, or none.
    path = str(settings["grpc_packages"])
    assert path not in (processor.folder / "log").read_text()


def test_tritonclient_sends_a_jpeg_and_reads_the_prediction(processor):
    triton = tritonclient.grpc.InferenceServerClient(processor.grpc_target)
    assert triton.is_server_live()
    assert triton.is_server_ready()
    assert triton.is_model_ready("echo")
    assert triton.get_model_metadata("echo").platform == "python"
    tensor = tritonclient.grpc.InferInput("image", [1], "BYTES")
    tensor.set_data_from_numpy(numpy.array([JPEG], dtype=object))
    wanted = tritonclient.grpc.InferRequestedOutput("predictions")
    result = triton.infer("echo", [tensor], outputs=[wanted], request_id="42")
    (prediction,) = result.as_numpy("predictions")
    assert json.loads(prediction) == {"keys": ["image"], "header": ""}
    assert result.get_response().id == "42"
    triton.close()


def test_several_rows_are_several_predictions_in_order(client):
    message = request("x", "FP32", [3, 2])
    message.inputs[0].contents.fp32_contents.extend(range(6))
    assert len(predictions(client.infer(message))) == 3


def test_raw_tensors_are_answered_with_raw_tensors(client):
    answer = client.infer(request("image", "BYTES", [1], b"\x04\x00\x00\x00\xff\xd8\xff\xe0"))
    assert not answer.outputs[0].HasField("contents")
    (raw,) = answer.raw_output_contents
    assert json.loads(raw[4:]) == {"keys": ["image"], "header": ""}


def test_metadata_of_a_call_become_headers(client):
    answer = client.infer(number("x", 1), metadata=[("x-test", "hello"), ("x-bin", b"\x00")])
    assert predictions(answer)[0]["header"] == "hello"


def test_the_parameters_and_the_id_of_a_request_are_kept(client):
    message = number("x", 1)
    message.id = "an id"
    message.parameters["priority"].int64_param = 3
    answer = client.infer(message)
    assert answer.id == "an id"
    assert predictions(answer)[0]["keys"] == ["parameters", "x"]


@pytest.mark.parametrize(
    ("status", "code"),
    [
        (400, "INVALID_ARGUMENT"),
        (404, "NOT_FOUND"),
        (408, "DEADLINE_EXCEEDED"),
        (500, "INTERNAL"),
        (501, "UNIMPLEMENTED"),
        (503, "UNAVAILABLE"),
        (504, "DEADLINE_EXCEEDED"),
        (418, "INTERNAL"),
    ],
)
def test_statuses_of_the_handler_become_statuses_of_grpc(client, status, code):
    name, details = client.error(number("status", status))
    assert (name.name, details) == (code, "as asked")


def _typed(datatype, **contents):
    message = request("x", datatype, [1, 1])
    for name, values in contents.items():
        getattr(message.inputs[0].contents, name).extend(values)
    return message


def _named(name, version=""):
    message = number("x", 1)
    message.model_name, message.model_version = name, version
    return message


def _two_raw():
    message = request("x", "INT8", [1], b"a")
    message.raw_input_contents.append(b"b")
    return message


def _both():
    message = number("x", 1)
    message.raw_input_contents.append(bytes(8))
    return message


@pytest.mark.parametrize(
    ("message", "code", "reason"),
    [
        (_named("nope"), "NOT_FOUND", "Model with name nope does not exist."),
        (_named("echo", "8"), "NOT_FOUND", "no version 8; revision 7 is serving"),
        (_named("../x"), "NOT_FOUND", "does not exist"),
        (request("x", "FP99", [1], b"1234"), "INVALID_ARGUMENT", "FP99"),
        (request("x", "FP32", [3], b"1234"), "INVALID_ARGUMENT", "12 bytes"),
        (request("x", "BYTES", [1], b"\x09\x00\x00\x00a"), "INVALID_ARGUMENT", '"x"'),
        (_typed("INT8", int_contents=[300]), "INVALID_ARGUMENT", "INT8"),
        (_typed("INT8", fp32_contents=[1]), "INVALID_ARGUMENT", "int_contents, not fp32_contents"),
        (_typed("FP16", fp32_contents=[1]), "INVALID_ARGUMENT", "raw contents only"),
        (_two_raw(), "INVALID_ARGUMENT", "2 raw_input_contents for 1 inputs"),
        (_both(), "INVALID_ARGUMENT", "none may have them"),
        (proto.message_class("ModelInferRequest")(model_name="echo"), "INVALID_ARGUMENT", "inputs"),
    ],
)
def test_a_request_that_cannot_be_served_gets_its_status(client, message, code, reason):
    name, details = client.error(message)
    assert name.name == code
    assert reason in details
    assert client.infer(number("x", 1)).model_name == "echo"


def test_bytes_that_are_no_message_are_the_clients_mistake(client):
    method = client.channel.unary_unary(f"/{proto.SERVICE}/ModelInfer")
    with pytest.raises(grpc.RpcError) as caught:
        method(b"\xff\xff\xff", timeout=60)
    assert caught.value.code() is grpc.StatusCode.INVALID_ARGUMENT


def test_a_message_above_max_request_body_size_is_refused(serve):
    processor = serve(inference.ECHO, **inference.settings(maxRequestBodySize=100_000))
    with Client(processor.grpc_target) as client:
        client.infer(request("x", "UINT8", [1, 90_000], bytes(90_000)))
        code, _ = client.error(request("x", "UINT8", [1, 200_000], bytes(200_000)))
        assert code is grpc.StatusCode.RESOURCE_EXHAUSTED


def test_the_largest_limit_is_that_of_grpcio(serve):
    processor = serve(inference.ECHO, **inference.settings(maxRequestBodySize=1 << 33))
    with Client(processor.grpc_target) as client:
        assert client.infer(number("x", 1)).model_name == "echo"


def test_a_call_that_was_cancelled_or_is_too_late_never_reaches_the_handler(serve, soon):
    source = inference.ECHO.replace("if ", "print('seen', sorted(body))\n        if ", 1)
    processor = serve(source, workers=1, **inference.settings())
    with Client(processor.grpc_target) as client:
        method = client.method("ModelInfer")
        busy = method.future(number("sleep", 2), timeout=60)
        soon(lambda: _is_busy(processor))
        cancelled = method.future(number("cancelled", 1), timeout=60)
        late, _ = client.error(number("late", 1), timeout=0.3)
        cancelled.cancel()
        assert late is grpc.StatusCode.DEADLINE_EXCEEDED
        assert busy.result().model_name == "echo"
        assert client.infer(number("after", 1)).model_name == "echo"
    seen = [record["message"] for record in processor.records(level="info")]
    assert "seen ['after']" in seen
    assert not [text for text in seen if "cancelled" in text or "late" in text]


def _is_busy(processor):
    return any(worker["state"] == "busy" for worker in processor.status()["workers"])


def test_calls_are_served_concurrently_by_all_workers(client):
    method = client.method("ModelInfer")
    began = time.monotonic()
    calls = [method.future(number("sleep", 1), timeout=60) for _ in range(2)]
    assert [call.result().model_name for call in calls] == ["echo", "echo"]
    assert time.monotonic() - began < 1.9


def test_health_reports_the_server_and_its_services(client):
    stub = health_pb2_grpc.HealthStub(client.channel)
    serving = health_pb2.HealthCheckResponse.SERVING
    for service in ("", proto.SERVICE):
        check = health_pb2.HealthCheckRequest(service=service)
        assert stub.Check(check, timeout=60).status == serving
        watch = stub.Watch(check, timeout=60)
        assert next(watch).status == serving
        watch.cancel()
    with pytest.raises(grpc.RpcError) as caught:
        stub.Check(health_pb2.HealthCheckRequest(service="nope"), timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services_and_their_descriptors(client):
    stub = reflection_pb2_grpc.ServerReflectionStub(client.channel)
    requests = [
        reflection_pb2.ServerReflectionRequest(list_services=""),
        reflection_pb2.ServerReflectionRequest(file_containing_symbol=proto.SERVICE),
    ]
    listed, described = stub.ServerReflectionInfo(iter(requests), timeout=60)
    names = {service.name for service in listed.list_services_response.service}
    assert names == {
        proto.SERVICE, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection",
    }  # fmt: skip
    assert described.file_descriptor_response.file_descriptor_proto


def test_a_method_that_is_not_served_is_unimplemented(client):
    method = client.channel.unary_unary(f"/{proto.SERVICE}/RepositoryIndex")
    with pytest.raises(grpc.RpcError) as caught:
        method(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_many_clients_at_once_get_their_own_answers(processor):
    wrong = []

    def call(name):
        with Client(processor.grpc_target) as own:
            for _ in range(20):
                if predictions(own.infer(number(name, 1)))[0]["keys"] != [name]:
                    wrong.append(name)

    threads = [threading.Thread(target=call, args=(f"k{index}",)) for index in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong
