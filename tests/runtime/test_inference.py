"""The inference protocols of a real processor."""

from __future__ import annotations

import base64
import gzip
import json
import os
import signal
import socket
import struct
import zlib
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy
import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import Answer, eventually, running

pytestmark = pytest.mark.system

PREDICT = "/v1/models/under-test:predict"
EXPLAIN = "/v1/models/under-test:explain"
INFER = "/v2/models/under-test/infer"
JPEG = b"\xff\xd8\xff\xe0 not decoded here \xff\xd9"

HANDLER = """
import base64
import os
import time


def handler(context, event):
    body = event.body
    if isinstance(body, dict) and "do" in body:
        if body["do"] == "raise":
            raise ValueError("no such label")
        if body["do"] == "die":
            os._exit(3)
        if body["do"] == "sleep":
            time.sleep(0.2)
        if body["do"] == "refuse":
            return context.Response(body="too dark", status_code=422, headers={"x-mark": "a"})
        if body["do"] == "text":
            return "text"
        if body["do"] == "bytes":
            return b"\\xff\\xfe"
        if body["do"] == "number":
            return 0.5
        if body["do"] == "nothing":
            return None
        if body["do"] == "wrong":
            return context.Response(body="{", content_type="application/json")
        if body["do"] == "stream":
            return iter_reply()
        if body["do"] == "decode":
            return len(base64.b64decode(body.pop("image"), validate=True))
    if isinstance(body, dict) and "image" in body:
        body = dict(body, image=base64.b64decode(body["image"]).decode("latin-1"))
    if isinstance(body, dict):
        body = {k: v.tolist() if hasattr(v, "tolist") else v for k, v in body.items()}
    response = context.Response(
        body={"body": body, "worker": os.getpid(), "type": event.content_type},
        headers={"x-mark": "a", "content-encoding": "none"},
    )
    return response


def iter_reply():
    yield "one "
    yield "two"


def explain(context, event):
    return {"because": event.body}
"""


def protocols(**attributes: Any) -> dict[str, Any]:
    return {"attributes": {"protocols": ["v1", "v2"], **attributes}}


def predict(processor: Any, *instances: Any, **headers: str) -> Answer:
    headers.setdefault("content_type", "application/json")
    return processor.send(json.dumps({"instances": list(instances)}), PREDICT, **headers)


def predictions(answer: Answer) -> list[Any]:
    assert answer.status == 200, answer
    return json.loads(answer.body)["predictions"]


def error(answer: Answer) -> tuple[int, str]:
    return answer.status, json.loads(answer.body)["error"]


def tensor(name: str, datatype: str, shape: list[int], data: Any) -> dict[str, Any]:
    return {"name": name, "datatype": datatype, "shape": shape, "data": data}


def infer(processor: Any, *tensors: dict[str, Any], **extra: Any) -> Answer:
    return processor.send(json.dumps({"inputs": tensors, **extra}), INFER)


def infer_binary(processor: Any, *tensors: tuple[str, str, list[int], bytes], **extra: Any) -> Any:
    items = [
        {"name": n, "datatype": t, "shape": s, "parameters": {"binary_data_size": len(d)}}
        for n, t, s, d in tensors
    ]
    head = json.dumps({"inputs": items, **extra}).encode()
    body = head + b"".join(data for *_, data in tensors)
    return processor.send(
        body,
        INFER,
        content_type="application/octet-stream",
        Inference_Header_Content_Length=str(len(head)),
    )


def bodies(answer: Answer) -> list[Any]:
    """Return the events' bodies in the reply to a V2 request."""
    assert answer.status == 200, answer
    (output,) = json.loads(answer.body)["outputs"]
    assert (output["name"], output["datatype"]) == ("predictions", "BYTES")
    assert output["shape"] == [len(output["data"])]
    return [json.loads(text)["body"] for text in output["data"]]


def element(data: bytes) -> bytes:
    return struct.pack("<I", len(data)) + data


@pytest.fixture(params=interpreters.few())
def version(request: pytest.FixtureRequest) -> str:
    return request.param


def test_both_protocols_on_each_interpreter(serve: Any, version: str) -> None:
    processor = serve(HANDLER, version=version, workers=2, trigger=protocols())
    image = base64.b64encode(JPEG).decode()
    (prediction,) = predictions(predict(processor, {"image": {"b64": image}, "threshold": 0.5}))
    assert prediction["body"] == {"image": JPEG.decode("latin-1"), "threshold": 0.5}
    several = [{"b64": image}, {"data": image}, 5, "text", [1], None]
    results = predictions(predict(processor, *several))
    picture = {"image": JPEG.decode("latin-1")}
    assert [item["body"] for item in results] == [picture, picture, 5, "text", [1], None]
    answer = infer(processor, tensor("x", "FP32", [2, 2], [1, 2, 3, 4]))
    assert bodies(answer) == [{"x": [1, 2]}, {"x": [3, 4]}]
    answer = infer_binary(processor, ("in", "BYTES", [1], element(JPEG)))
    assert bodies(answer) == [picture]
    assert json.loads(processor.send(b"{}", EXPLAIN).body) == {
        "error": 'Expected "instances" to be a list'
    }
    assert json.loads(processor.send(b'{"instances": [1]}', EXPLAIN).body) == {
        "explanations": [{"because": 1}]
    }


@pytest.fixture(scope="module")
def processor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    home = tmp_path_factory.mktemp("inference")
    with running(home, HANDLER, workers=2, trigger=protocols(maxRequestBodySize=16_000_000)) as it:
        yield it


@pytest.mark.parametrize(
    "content_type",
    [
        "application/json; charset=utf-8",
        "application/x-www-form-urlencoded",
        "text/plain",
        "application/octet-stream",
        "",
    ],
)
def test_json_with_any_content_type(processor: Any, content_type: str) -> None:
    """KServe hands bytes to the model for all but four exact types."""
    answer = predict(processor, {"a": 1}, content_type=content_type)
    assert predictions(answer)[0]["body"] == {"a": 1}
    assert predictions(answer)[0]["type"] == "application/json"
    body = json.dumps({"inputs": [tensor("x", "INT8", [1], [1])]})
    answer = processor.send(body, INFER, content_type=content_type)
    assert bodies(answer) == [{"x": 1}]


def test_an_image_as_the_body(processor: Any) -> None:
    answer = processor.send(JPEG, PREDICT, content_type="image/jpeg")
    assert predictions(answer)[0]["body"] == {"image": JPEG.decode("latin-1")}


def test_a_structured_cloudevent(processor: Any) -> None:
    event = {
        "specversion": "1.0",
        "id": "1",
        "source": "s",
        "type": "t",
        "data": {"instances": [1]},
    }
    answer = processor.send(
        json.dumps(event), PREDICT, content_type="application/cloudevents+json; charset=utf-8"
    )
    assert predictions(answer)[0]["body"] == 1


def test_a_binary_cloudevent(processor: Any) -> None:
    headers = {"ce-id": "1", "ce-source": "s", "ce-specversion": "1.0", "ce-type": "t"}
    answer = predict(processor, 1, **headers)
    assert predictions(answer)[0]["body"] == 1


def test_instances_at_the_key_inputs(processor: Any) -> None:
    answer = processor.send(b'{"inputs": [1, {"b64": "QUJD"}]}', PREDICT)
    assert [item["body"] for item in predictions(answer)] == [1, {"image": "ABC"}]
    columns = processor.send(b'{"inputs": {"x": [1, 2]}}', PREDICT)
    assert error(columns) == (400, 'Expected "instances" to be a list')


def test_replies_of_any_type(processor: Any) -> None:
    values = [{"do": name} for name in ("text", "bytes", "stream", "number", "nothing")]
    expected = ["text", {"b64": "//4="}, "one two", 0.5, None]
    assert predictions(predict(processor, *values)) == expected


def test_a_label_with_its_percentage(serve: Any) -> None:
    """The answer of a classifier as an example of KFServing has it."""
    handler = "def handler(context, event):\n    return ['cat', '27.64%']\n"
    processor = serve(handler, trigger=protocols())
    answer = predict(processor, {"image": {"b64": "QUJD"}})
    assert json.loads(answer.body) == {"predictions": [["cat", "27.64%"]]}


def test_no_instances(processor: Any) -> None:
    assert predictions(predict(processor)) == []


def test_a_wrong_method_gets_those_that_are_allowed(processor: Any) -> None:
    for path, allowed in ((INFER, "POST"), ("/v1/models", "GET, HEAD")):
        answer = processor.send(path=path, method="DELETE")
        assert (answer.status, answer.header("allow")) == (405, allowed)


def test_headers_of_a_single_reply_stay(processor: Any) -> None:
    answer = predict(processor, 1)
    assert answer.header("x-mark") == "a"
    assert answer.header("content-type") == "application/json"
    assert answer.header("content-encoding") is None
    assert answer.header("server-timing")


def test_instances_are_spread_over_the_workers_and_joined_in_order(processor: Any) -> None:
    values = [{"do": "sleep", "number": number} for number in range(6)]
    results = predictions(predict(processor, *values))
    assert [item["body"]["number"] for item in results] == list(range(6))
    assert len({item["worker"] for item in results}) == 2
    rows = numpy.arange(12, dtype="<f4").reshape(6, 2)
    answer = infer_binary(processor, ("x", "FP32", [6, 2], rows.tobytes()))
    assert bodies(answer) == [{"x": row} for row in rows.tolist()]


def test_many_instances_do_not_delay_other_requests(serve: Any) -> None:
    processor = serve(HANDLER, trigger=protocols())
    with ThreadPoolExecutor(1) as pool:
        many = pool.submit(predict, processor, *[{"do": "sleep"}] * 10)
        eventually(lambda: processor.status()["workers"][0]["state"] == "busy")
        assert predictions(predict(processor, 1))[0]["body"] == 1
        assert not many.done()
        assert len(predictions(many.result())) == 10


def test_a_complete_response_does_not_wait_for_other_requests(serve: Any) -> None:
    processor = serve(HANDLER, workers=2, trigger=protocols())
    with ThreadPoolExecutor(17) as pool:
        several = pool.submit(predict, processor, {"do": "sleep"}, {"do": "sleep"})
        processor.await_workers("busy", "busy")
        others = [pool.submit(predict, processor, {"do": "sleep"}) for _ in range(16)]
        assert len(predictions(several.result())) == 2
        assert not all(other.done() for other in others)
        assert {other.result().status for other in others} == {200}


def test_busy_workers_do_not_delay_health_checks(serve: Any) -> None:
    processor = serve(HANDLER.replace("0.2", "5"), trigger=protocols())
    with ThreadPoolExecutor(1) as pool:
        busy = pool.submit(predict, processor, {"do": "sleep"})
        eventually(lambda: processor.status()["workers"][0]["state"] == "busy")
        for path in ("/v2/health/live", "/v2/health/ready", "/v1/models/under-test"):
            assert processor.send(path=path, method="GET").status == 200
        assert not busy.done()
        assert busy.result().status == 200


def test_the_first_failure_is_the_reply(processor: Any) -> None:
    answer = predict(processor, 1, {"do": "raise"}, 3)
    assert error(answer) == (500, "ValueError : no such label")
    assert error(predict(processor, 1, {"do": "refuse"})) == (422, "too dark")
    status, text = error(predict(processor, 1, {"do": "die"}, 2))
    assert status == 500
    assert "exit code 3" in text
    processor.await_workers("ready", "ready")


@pytest.mark.parametrize("value", [{"do": "raise"}, {"do": "refuse"}, {"do": "wrong"}])
def test_errors_of_the_handler(processor: Any, value: Any) -> None:
    expected = {
        "raise": (500, "ValueError : no such label"),
        "refuse": (422, "too dark"),
        "wrong": (500, "it is not JSON"),
    }[value["do"]]
    status, text = error(predict(processor, value))
    assert status == expected[0]
    assert expected[1] in text
    if value["do"] == "raise":
        processor.await_record("Traceback")


def test_invalid_base64_is_the_clients_mistake(processor: Any) -> None:
    answer = predict(processor, {"image": {"b64": "not base64!"}, "do": "decode"})
    assert error(answer) == (400, "the image of an instance is not base64")
    answer = predict(processor, {"b64": "QUJD", "do": "decode"}, {"b64": "QQ", "do": "decode"})
    assert error(answer)[0] == 400


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "Unrecognized request format"),
        (b"{", "Unrecognized request format"),
        (b"\xff", "Unrecognized request format"),
        (b"[]", "not a JSON object"),
        (b"{}", 'Expected "instances" to be a list'),
        (b'{"instances": {}}', 'Expected "instances" to be a list'),
        (b'{"inputs": {"x": [1]}}', 'Expected "instances" to be a list'),
        (b'{"instances": [{"image": {"b64": 5}}]}', "instances[0].image.b64 is not a text"),
        (b"[" * 100_000, "Unrecognized request format"),
    ],
)
def test_malformed_v1_requests(processor: Any, body: bytes, message: str) -> None:
    answer = processor.send(body, PREDICT)
    assert answer.status == 400
    assert message in json.loads(answer.body)["error"]


THREE = tensor("z", "INT8", [3], [1, 2, 3])
VALID = tensor("x", "FP32", [1], [1.0])


@pytest.mark.parametrize(
    ("request_value", "message"),
    [
        ([], "not a JSON object"),
        ({}, "inputs is not a list"),
        ({"inputs": []}, "inputs is not a list"),
        ({"inputs": [5]}, "inputs[0] is not an object"),
        ({"inputs": [{**VALID, "name": 5}]}, "inputs[0].name is missing"),
        ({"inputs": [{**VALID, "datatype": None}]}, "invalid datatype null"),
        ({"inputs": [{**VALID, "datatype": "BF16"}]}, 'invalid datatype "BF16"'),
        ({"inputs": [{**VALID, "shape": [-1]}]}, "its shape [-1] is not a list of sizes"),
        ({"inputs": [{**VALID, "shape": "9" * 9000}]}, "9… is not a list of sizes"),
        ({"inputs": [{**VALID, "shape": [2]}]}, "data has 1 elements, and the shape [2] has 2"),
        ({"inputs": [{**VALID, "data": None}]}, "needs either data or"),
        ({"inputs": [{**VALID, "parameters": 5}]}, "inputs[0].parameters is not an object"),
        ({"inputs": [VALID, VALID]}, 'two inputs have the same name, "x"'),
        ({"inputs": [VALID], "id": 5}, "id is not a text"),
        ({"inputs": [VALID], "parameters": 5}, "parameters is not an object"),
        ({"inputs": [VALID], "outputs": [5]}, "outputs is not a list of objects"),
        ({"inputs": [VALID], "outputs": [{"name": "nope"}]}, 'has no output "nope"'),
        (
            {
                "inputs": [
                    VALID,
                    tensor("y", "FP32", [2], [1, 2]),
                    tensor("z", "INT8", [3], [1] * 3),
                ]
            },
            '"z" has 3 rows, and another input has 2',
        ),
        ({"inputs": [tensor("x", "INT8", [0], [])]}, "an input has no rows"),
        (
            {"inputs": [tensor("x", "BYTES", [1], ["a"]), tensor("y", "INT8", [2], [1, 2])]},
            '"x" has 1 rows, and another input has 2',
        ),
        ({"inputs": [tensor("x", "INT8", [2000], [1] * 2000)]}, "2000 instances, and the limit"),
    ],
)
def test_malformed_v2_requests(processor: Any, request_value: Any, message: str) -> None:
    """KServe answers several of these with 422 or 500."""
    status, text = error(processor.send(json.dumps(request_value), INFER))
    assert status == 400
    assert message in text


def test_large_malformed_requests(processor: Any) -> None:
    """Errors keep no part of a body in memory that is shared with the processor."""
    workers = [worker["pid"] for worker in processor.status()["workers"]]
    large = bytes(300_000)
    for tensor_of_size in (("x", "INT8", [1], large), ("x", "BYTES", [1], large)):
        assert infer_binary(processor, tensor_of_size).status == 400
    assert infer_binary(processor, ("x", "INT8", [3], b"abc"), more="x" * 300_000).status == 200
    assert processor.send(large, PREDICT).status == 400
    assert processor.send(b'{"instances": ' + large, INFER).status == 400
    jpeg = JPEG + large
    assert processor.send(jpeg, PREDICT, content_type="image/jpeg").status == 200
    assert [worker["pid"] for worker in processor.status()["workers"]] == workers


def test_malformed_binary_requests(processor: Any) -> None:
    head = json.dumps({"inputs": [{"name": "x", "datatype": "INT8", "shape": [1]}]}).encode()
    for length, message in (("x", "is not a number"), ("999", "and the body has")):
        answer = processor.send(head, INFER, Inference_Header_Content_Length=length)
        assert answer.status == 400
        assert message in error(answer)[1]
    for data, size, message in (
        (b"1", 2, "and the body has 1 more bytes"),
        (b"12", 1, "1 bytes that belong to no input"),
        (b"12", 2, "binary_data_size is 2, and INT8 of the shape [1] has 1 bytes"),
        (b"1", -1, "is not a size"),
        (b"1", True, "is not a size"),
    ):
        item = {"name": "x", "datatype": "INT8", "shape": [1]}
        value = {"inputs": [{**item, "parameters": {"binary_data_size": size}}]}
        head = json.dumps(value).encode()
        answer = processor.send(head + data, INFER, Inference_Header_Content_Length=str(len(head)))
        assert answer.status == 400
        assert message in error(answer)[1]
    value["inputs"][0]["parameters"] = {"binary_data_size": 1}
    status, text = error(processor.send(json.dumps(value), INFER))
    assert status == 400
    assert "the header Inference-Header-Content-Length has the size of the JSON" in text


def test_a_request_without_id_has_an_id_in_its_response(processor: Any) -> None:
    value = json.loads(infer(processor, VALID).body)
    assert isinstance(value["id"], str)
    assert value["id"]
    assert value["model_name"] == "under-test"
    assert value["model_version"] == "7"
    assert json.loads(infer(processor, VALID, id="mine").body)["id"] == "mine"
    two = infer(processor, tensor("x", "FP32", [2], [1, 2]), id="mine")
    assert json.loads(two.body)["id"] == "mine"


def test_the_parameters_of_a_request_are_in_the_body_of_each_event(processor: Any) -> None:
    parameters = {"priority": 2, "binary_data_output": False}
    single = infer(processor, tensor("x", "INT64", [1], [5]), parameters=parameters)
    assert bodies(single) == [{"x": 5, "parameters": {"priority": 2}}]
    several = infer(processor, tensor("x", "INT64", [2], [5, 6]), parameters=parameters)
    assert [body["parameters"] for body in bodies(several)] == [{"priority": 2}] * 2
    tensors = tensor("parameters", "INT64", [1], [7]), tensor("x", "INT64", [1], [5])
    named = infer(processor, *tensors, parameters=parameters)
    assert bodies(named) == [{"parameters": 7, "x": 5}]
    own = infer(processor, tensor("x", "INT64", [1], [5]), parameters={"binary_data_output": False})
    assert bodies(own) == [{"x": 5}]


def test_images_as_tensors(processor: Any) -> None:
    pixels = numpy.arange(2 * 3 * 3, dtype="u1").reshape(2, 3, 3)
    ppm = (b"P6\n3 2\n255\n" + pixels.tobytes()).decode("latin-1")
    single = infer_binary(processor, ("in", "UINT8", [2, 3, 3], pixels.tobytes()))
    assert bodies(single) == [{"image": ppm}]
    two = infer_binary(processor, ("in", "UINT8", [2, 2, 3, 3], pixels.tobytes() * 2))
    assert bodies(two) == [{"image": ppm}] * 2
    file = infer_binary(processor, ("in", "UINT8", [len(JPEG)], JPEG))
    assert bodies(file) == [{"image": JPEG.decode("latin-1")}]
    text = base64.b64encode(JPEG).decode()
    for answer in (
        infer(processor, tensor("in", "BYTES", [1], [text])),
        infer_binary(processor, ("in", "BYTES", [1], element(text.encode()))),
        infer_binary(processor, ("in", "BYTES", [1], element(JPEG))),
    ):
        assert bodies(answer) == [{"image": JPEG.decode("latin-1")}]
    threshold = tensor("threshold", "FP32", [1], [0.5])
    answer = infer(processor, tensor("in", "BYTES", [2, 1], [text, text]), threshold)
    assert bodies(answer) == [{"image": JPEG.decode("latin-1"), "threshold": 0.5}] * 2


def test_large_bodies_and_replies(processor: Any) -> None:
    text = "a" * 6_000_000
    answer = predict(processor, {"text": text})
    assert predictions(answer)[0]["body"] == {"text": text}
    half = text[:1_200_000]
    results = predictions(predict(processor, *[{"text": half}] * 3))
    assert [item["body"]["text"] for item in results] == [half] * 3
    row = numpy.ones((2, 300_000), "<f4")
    assert (
        bodies(infer_binary(processor, ("x", "FP32", [2, 300_000], row.tobytes())))
        == [{"x": [1.0] * 300_000}] * 2
    )


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
def test_compressed_bodies_in_both_directions(processor: Any, coding: str) -> None:
    text = "abc" * 1000
    plain = json.dumps({"instances": [text]}).encode()
    body = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)
    answer = processor.send(body, PREDICT, content_encoding=coding, accept_encoding=coding)
    assert answer.header("content-encoding") == coding
    assert answer.header("vary") == "Accept-Encoding"
    data = zlib.decompress(answer.body, 47)
    assert json.loads(data)["predictions"][0]["body"] == text
    both = json.dumps({"instances": [text, text]}).encode()
    body = gzip.compress(both)
    answer = processor.send(body, PREDICT, content_encoding="gzip", accept_encoding=coding)
    assert len(json.loads(zlib.decompress(answer.body, 47))["predictions"]) == 2
    assert predict(processor, 1, accept_encoding=coding).header("content-encoding") is None
    refused = predict(processor, text, accept_encoding=coding + ";q=0")
    assert refused.header("content-encoding") is None


def test_invalid_compressed_bodies(processor: Any) -> None:
    bomb = gzip.compress(bytes(20_000_000))
    for body, coding, status in (
        (b"no gzip", "gzip", 400),
        (gzip.compress(b"{}")[:-4], "gzip", 400),
        (b"{}", "br", 415),
        (bomb, "gzip", 413),
    ):
        assert processor.send(body, PREDICT, content_encoding=coding).status == status


def test_explain_is_501_without_an_explainer(serve: Any) -> None:
    processor = serve("def handler(context, event):\n    return 1\n", trigger=protocols())
    status, text = error(processor.send(b'{"instances": [1]}', EXPLAIN))
    assert status == 501
    assert "explain(context, event)" in text


def test_ready_only_when_every_worker_has_run_init_context(serve: Any, tmp_path: Path) -> None:
    handler = """
    import os, time

    def init_context(context):
        while context.worker_id == "1" and not os.path.exists(os.environ["GATE"]):
            time.sleep(0.02)

    def handler(context, event):
        return 1
    """
    gate = tmp_path / "gate"
    processor = serve(handler, workers=2, trigger=protocols(), env={"GATE": str(gate)}, wait=None)
    eventually(lambda: processor.status()["workers"][0]["state"] == "ready")
    for path in ("/v1/models/under-test", "/v2/models/under-test/ready", "/v2/health/ready"):
        assert processor.send(path=path, method="GET").status == 503
    assert processor.send(path="/v2/health/live", method="GET").status == 200
    assert processor.send(path="/v2/models/under-test", method="GET").status == 200
    # A ready worker serves.
    assert predictions(predict(processor, 1)) == [1]
    gate.touch()
    processor.await_state("ready")
    for path in ("/v1/models/under-test", "/v2/models/under-test/ready", "/v2/health/ready"):
        assert processor.send(path=path, method="GET").status == 200


OUTPUTS = """
import json
import numpy


def handler(context, event):
    x = numpy.asarray(event.body["features"], "f8")
    if x.sum() < 0:
        return context.Response(body="negative", status_code=400)
    if x.sum() == 0:
        return {"scores": [1]}
    reply = {
        "scores": x * 2,
        "top": [{"label": "cat"}, {"label": "dog"}],
        "half": numpy.float16(0.5),
    }
    return reply
"""
DECLARED = protocols(
    model="iris",
    inputs=[{"name": "input-0", "datatype": "FP32", "shape": [-1, 2], "field": "features"}],
    outputs=[
        {"name": "scores", "datatype": "FP64", "shape": [-1, 2]},
        {"name": "labels", "datatype": "BYTES", "shape": [-1, 2], "field": "top[].label"},
        {"name": "all", "datatype": "BYTES", "field": "top"},
        {"name": "half", "datatype": "FP16"},
    ],
)


def test_declared_tensors(serve: Any) -> None:
    processor = serve(OUTPUTS, workers=2, trigger=DECLARED)
    path = "/v2/models/iris/infer"

    def ask(*names: str, data: Any = (1.0, 2.0, 3.0, 4.0), **extra: Any) -> Any:
        value = {
            "inputs": [tensor("input-0", "FP32", [len(data) // 2, 2], list(data))],
            "outputs": [{"name": name} for name in names],
            **extra,
        }
        return processor.send(json.dumps(value), path)

    answer = ask("scores", "labels", "all")
    scores, labels, everything = json.loads(answer.body)["outputs"]
    assert scores == tensor("scores", "FP64", [2, 2], [2.0, 4.0, 6.0, 8.0])
    assert labels == tensor("labels", "BYTES", [2, 2], ["cat", "dog"] * 2)
    top = json.dumps([{"label": "cat"}, {"label": "dog"}])
    assert everything == tensor("all", "BYTES", [2], [top, top])
    answer = ask("half")
    assert (answer.status, "FP16, which has binary data only" in str(answer.body)) == (400, True)
    answer = ask("half", "scores", data=(1.0, 2.0), parameters={"binary_data_output": True})
    size = int(answer.header("inference-header-content-length") or 0)
    half, scores = json.loads(answer.body[:size])["outputs"]
    assert half["parameters"] == {"binary_data_size": 2}
    assert answer.body[size:] == struct.pack("<e2d", 0.5, 2, 4)
    assert answer.header("content-type") == "application/octet-stream"
    assert error(ask("scores", data=(-1.0, 0.0))) == (400, "negative")
    status, text = error(ask("scores", data=(0.0, 0.0)))
    assert status == 500
    assert 'no value for the output "labels"' in text
    metadata = json.loads(processor.send(path="/v2/models/iris", method="GET").body)
    assert metadata["inputs"] == [{"name": "input-0", "datatype": "FP32", "shape": [-1, 2]}]
    assert [output["name"] for output in metadata["outputs"]] == ["scores", "labels", "all", "half"]
    for wrong, message in (
        (tensor("x", "FP32", [1, 2], [1, 2]), 'the input "input-0" is missing'),
        (tensor("input-0", "FP64", [1, 2], [1, 2]), "has the datatype FP64, not FP32"),
        (tensor("input-0", "FP32", [1, 3], [1, 2, 3]), "has the shape [1, 3], not [-1, 2]"),
    ):
        status, text = error(processor.send(json.dumps({"inputs": [wrong]}), path))
        assert status == 400
        assert message in text


WHOLE = """
import json


def stream(context, kind):
    items = iter(['{"predictions"', ": [3]}"])
    generator = (item for item in items)
    if kind == "json":
        headers = {"X-Seconds": "3"}
        return context.Response(body=generator, headers=headers, content_type="application/json")
    return (422, generator) if kind == "refused" else generator


def handler(context, event):
    body = event.body
    if "instances" in body:
        if body["instances"] == ["plain"]:
            return {"other": 1}
        if "kind" in body:
            return stream(context, body["kind"])
        return {"predictions": [n * 2 for n in body["instances"]], "more": True}
    (x,) = body["inputs"]
    if x["name"] == "plain":
        return context.Response(body=json.dumps([1]), content_type="application/json")
    if x["name"] == "bad":
        return {"outputs": [{"name": "y", "datatype": "FP32", "shape": [3], "data": [1, 2]}]}
    data = x["data"] * 2 if hasattr(x["data"], "shape") else [n * 2 for n in x["data"]]
    return {"outputs": [dict(x, name="y", data=data)], "parameters": body.get("parameters")}
"""


def test_whole_requests(serve: Any) -> None:
    processor = serve(WHOLE, workers=2, trigger=protocols(event="request"))
    answer = processor.send(b'{"instances": [1, 2]}', PREDICT)
    assert json.loads(answer.body) == {"predictions": [2, 4], "more": True}
    answer = processor.send(b'{"instances": ["plain"]}', PREDICT)
    assert json.loads(answer.body) == {"predictions": [{"other": 1}]}
    answer = processor.send(b'{"instances": [], "kind": "json"}', PREDICT)
    assert (json.loads(answer.body), answer.header("x-seconds")) == ({"predictions": [3]}, "3")
    answer = processor.send(b'{"instances": [], "kind": "text"}', PREDICT)
    assert json.loads(answer.body) == {"predictions": ['{"predictions": [3]}']}
    answer = processor.send(b'{"instances": [], "kind": "refused"}', PREDICT)
    assert error(answer) == (422, '{"predictions": [3]}')
    parameters = {"priority": 2}
    pair = tensor("x", "INT32", [2, 1], [1, 2])
    value = json.loads(infer(processor, pair, id="i", parameters=parameters).body)
    assert (value["id"], value["parameters"]) == ("i", parameters)
    assert value["outputs"] == [tensor("y", "INT32", [2, 1], [2, 4])]
    many = json.dumps({"instances": list(range(1000))}).encode()
    answer = processor.send(
        gzip.compress(many), PREDICT, content_encoding="gzip", accept_encoding="gzip, deflate, br"
    )
    assert answer.header("content-encoding") == "gzip"
    assert json.loads(gzip.decompress(answer.body))["predictions"][999] == 1998
    data = numpy.ones((1000, 500), "<f4")
    answer = infer_binary(
        processor,
        ("x", "FP32", [1000, 500], data.tobytes()),
        parameters={"binary_data_output": True},
    )
    size = int(answer.header("inference-header-content-length") or 0)
    assert answer.body[size:] == (data * 2).tobytes()
    value = json.loads(infer(processor, tensor("plain", "INT32", [1], [1])).body)
    assert value["outputs"] == [tensor("predictions", "BYTES", [1], ["[1]"])]
    status, text = error(infer(processor, tensor("bad", "INT32", [1], [1])))
    assert status == 500
    assert "outputs[0] of the reply is not a tensor" in text


BATCHES = """
def handler(context, events):
    if any(event.body == "raise" for event in events):
        raise ValueError("no such label")
    replies = []
    for event in reversed(events):
        response = context.Response(body={"body": event.body, "batch": len(events)})
        if event.body == "refuse":
            response = context.Response(body="too dark", status_code=422)
        response.event_id = event.id
        replies.append(response)
    return replies


def explain(context, event):
    return event.body
"""


def test_several_instances_are_one_batch(serve: Any) -> None:
    trigger = {**protocols(), "batch": {"size": 4, "timeout": 0.02}}
    processor = serve(BATCHES, trigger=trigger)
    results = predictions(predict(processor, 1, 2, 3))
    assert results == [{"body": number, "batch": 3} for number in (1, 2, 3)]
    # No batch is larger than the trigger's.
    results = predictions(predict(processor, 1, 2, 3, 4, 5))
    assert [item["batch"] for item in results] == [4, 4, 4, 4, 1]
    answer = infer(processor, tensor("x", "INT8", [2], [1, 2]))
    assert bodies(answer) == [{"x": 1}, {"x": 2}]
    answer = processor.send(b'{"instances": [1, 2]}', EXPLAIN)
    assert json.loads(answer.body) == {"explanations": [1, 2]}
    assert error(predict(processor, 1, "raise")) == (500, "ValueError : no such label")
    assert error(predict(processor, 1, "refuse")) == (422, "too dark")
    assert processor.call(5) == {"body": 5, "batch": 1}


def test_an_error_in_a_batch_concerns_its_request_only(serve: Any) -> None:
    source = """
        def handler(context, events):
            if any(event.body == "raise" for event in events):
                raise ValueError("no such label")
            return [ValueError("too dark") if event.body == "dark" else event.body
                    for event in events]
        """
    processor = serve(source, trigger={**protocols(), "batch": {"size": 2, "timeout": 15.0}})
    # Two requests with two instances each are handled in two calls.
    for word, message in (("dark", "too dark"), ("raise", "no such label")):
        with ThreadPoolExecutor(2) as pool:
            good = pool.submit(predict, processor, "a", "b")
            bad = pool.submit(predict, processor, "c", word)
            assert predictions(good.result()) == ["a", "b"]
            assert error(bad.result()) == (500, "ValueError : " + message)


def test_a_batch_of_different_requests(serve: Any) -> None:
    trigger = {**protocols(), "batch": {"size": 4, "timeout": 15.0}}
    processor = serve(BATCHES, trigger=trigger)
    with ThreadPoolExecutor(4) as pool:
        plain = pool.submit(processor.call, 5)
        single = pool.submit(predict, processor, 1)
        several = pool.submit(predict, processor, 2, 3)
        malformed = pool.submit(processor.send, b"[]", PREDICT)
        assert plain.result() == {"body": 5, "batch": 4}
        assert predictions(single.result()) == [{"body": 1, "batch": 4}]
        assert predictions(several.result()) == [
            {"body": 2, "batch": 4}, {"body": 3, "batch": 4}
        ]  # fmt: skip
        assert malformed.result().status == 400


def test_logs_of_instances_belong_to_their_request(serve: Any) -> None:
    handler = """
    def handler(context, event):
        context.logger.info("saw %s" % event.body)
        return 1
    """
    processor = serve(handler, trigger=protocols())
    answer = predict(processor, 1, 2, x_nuclio_log_level="info", x_request_id="mine")
    logs = json.loads(answer.header("x-nuclio-logs") or "[]")
    assert [record["message"] for record in logs] == ["saw 1", "saw 2"]
    assert {record["request_id"] for record in processor.records(name="handler")} == {"mine"}


def test_without_protocols_their_paths_are_those_of_the_handler(serve: Any) -> None:
    handler = "def handler(context, event):\n    return event.path\n"
    processor = serve(handler)
    assert processor.send(path="/v1/models", method="GET").body == b"/v1/models"
    assert processor.send(b"{}", INFER).body == INFER.encode()


def test_a_disconnected_client_ends_its_instances(serve: Any) -> None:
    handler = """
    import time

    def handler(context, event):
        context.logger.info("saw %s" % event.body)
        time.sleep(0.2)
        return 1
    """
    processor = serve(handler, trigger=protocols())
    port = int(processor.url.rpartition(":")[2])
    body = json.dumps({"instances": list(range(50))}).encode()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        head = f"POST {PREDICT} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
        connection.sendall(head.encode() + body)
        processor.await_record("saw 0")
    assert predictions(predict(processor, 99)) == [1]
    assert len(processor.records(name="handler")) < 10


def test_a_killed_worker_loses_its_own_request_only(serve: Any) -> None:
    handler = """
    import time

    def handler(context, event):
        time.sleep(0.005)
        return event.body
    """
    processor = serve(handler, workers=3, trigger=protocols())
    three = tensor("x", "INT8", [3], [1, 2, 3])
    expected: list[tuple[Any, int]] = [
        (lambda: predict(processor, 1), 200),
        (lambda: predict(processor, 1, 2, 3), 200),
        (lambda: infer(processor, three), 200),
        (lambda: processor.send(b"[]", PREDICT), 400),
        (lambda: infer(processor, {**three, "shape": [4]}), 400),
        (lambda: processor.send(b"plain"), 200),
    ]
    kills = 3
    with ThreadPoolExecutor(8) as pool:
        calls = [(pool.submit(call), status) for call, status in expected * 60]
        for number in range(kills):
            calls[(number + 1) * len(calls) // 5][0].result()
            worker = processor.status()["workers"][number]
            if worker["pid"]:
                os.kill(worker["pid"], signal.SIGKILL)
        results = [(call.result(), status) for call, status in calls]
    failed = [answer for answer, status in results if answer.status != status]
    assert len(failed) <= kills
    for answer in failed:
        assert answer.status == 500
        assert b"killed" in answer.body
