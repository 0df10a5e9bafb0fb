"""Handlers of archives, and TorchServe's API, in a real processor without TorchServe."""

from __future__ import annotations

import http.client
import json
import time
from pathlib import Path
from typing import Any

import pytest

from tests.runtime import interpreters
from tests.runtime.conftest import Running, Serve, eventually
from tests.runtime.torchserve.unpacked import archive

pytestmark = pytest.mark.system

FUNCTION = """
    state = {}

    def handle(data, context):
        if data is None:
            state.update(context.system_properties, name=context.model_name)
            return None
        return [{"rows": len(data), "state": state} for row in data]
"""

CLASS = """
    import json
    import os

    import helper
    from ts.context import Context
    from ts.metrics.dimension import Dimension
    from ts.torch_handler.base_handler import BaseHandler

    class Handler(BaseHandler):
        def initialize(self, context):
            with open(os.path.join(context.system_properties["model_dir"], "words.json")) as file:
                self.words = json.load(file)
            self.loaded = open("words.json").read() != ""
            self.initialized = True

        def preprocess(self, data):
            return [row.get("data") or row.get("body") for row in data]

        def inference(self, data):
            self.context.metrics.add_counter("Calls", 1, None, [Dimension("Part", "test")])
            return [helper.upper(self.words[item["word"]]) for item in data]

        def postprocess(self, data):
            return data
"""


TWO_CLASSES = """
    class First:
        def initialize(self, context):
            pass

        def handle(self, data, context):
            return data

    class Second(First):
        pass
"""


def failure(serve: Serve, handler: str, files: dict[str, str], **model: str) -> str:
    """Return the reason why the workers of an archive do not start."""
    running = serve(wait="unhealthy", **archive(handler, files, **model))
    reason: str = running.status()["workers"][0]["message"]
    return reason


def predict(running: Running, body: Any = b"", path: str = "m", **headers: str) -> Any:
    return running.send(body, f"/predictions/{path}", **headers)


@pytest.mark.parametrize("version", interpreters.few())
def test_a_module_level_handle_is_called_without_data_to_initialize(
    serve: Serve, version: str
) -> None:
    running = serve(version=version, **archive("handler.py", {"handler.py": FUNCTION}))
    reply = json.loads(predict(running).body)
    assert reply["rows"] == 1
    state = reply["state"]
    assert state.pop("name") == "m"
    assert state.pop("model_dir") == str(running.code)
    assert state == {
        "gpu_id": None,
        "batch_size": 1,
        "server_name": "MMS",
        "server_version": "0.12.0",
        "limit_max_image_pixels": True,
    }


@pytest.mark.parametrize("version", interpreters.few())
def test_a_subclass_of_the_base_handler_runs_without_torchserve(serve: Serve, version: str) -> None:
    files = {
        "handler.py": CLASS,
        "helper.py": "def upper(text):\n    return text.upper()\n",
        "words.json": '{"a": "first"}',
    }
    running = serve(version=version, workers=2, **archive("handler.py", files))
    reply = predict(running, '{"word": "a"}', content_type="application/json")
    assert (reply.status, reply.body) == (200, b"FIRST")
    assert running.await_record("Calls.count:1|#Part:test,ModelName:m,Level:Model")


EVERYTHING = """
    from ts.handler_utils.utils import send_intermediate_predict_response
    from ts.utils.util import PredictionException

    def handle(data, context):
        if data is None:
            return
        (row,) = data
        if row.get("body") == "fail":
            raise PredictionException("refused", 422)
        if row.get("body") == "stream":
            send_intermediate_predict_response(["a"], context.request_ids, "", 200, context)
        return [sorted("%s=%s" % (key, type(row[key]).__name__) for key in row)]
"""


@pytest.mark.parametrize("version", interpreters.few())
def test_forms_errors_and_streams_on_each_interpreter(serve: Serve, version: str) -> None:
    running = serve(version=version, **archive("handler.py", {"handler.py": EVERYTHING}))
    parts = [
        '--b\r\nContent-Disposition: form-data; name="a"\r\n\r\n1\r\n',
        '--b\r\nContent-Disposition: form-data; name="f"; filename="x.json"\r\n',
        "Content-Type: application/json\r\n\r\n{}\r\n--b--\r\n",
    ]
    reply = predict(running, "".join(parts), content_type="multipart/form-data; boundary=b")
    assert json.loads(reply.body) == ["a=bytearray", "f=dict"]
    reply = predict(running, "a=1", content_type="application/x-www-form-urlencoded")
    assert json.loads(reply.body) == ["a=bytearray"]
    reply = predict(running, "fail", content_type="text/plain")
    assert (reply.status, json.loads(reply.body)["message"]) == (422, "refused")
    reply = predict(running, "stream", content_type="text/plain")
    assert reply.body == b'a[\n  "body=str"\n]'


def test_large_bodies_and_replies_are_passed_on(serve: Serve) -> None:
    source = """
        def handle(data, context):
            return data and [row["body"] * 2 for row in data]
    """
    running = serve(**archive("handler.py", {"handler.py": source}))
    body = bytes(range(256)) * 12_000
    assert predict(running, body).body == body * 2
    assert predict(running, b"ab").body == b"abab"


def test_the_kserve_envelope_answers_v1_too(serve: Serve) -> None:
    source = """
        def handle(data, context):
            return data and [value * 2 for value in data]
    """
    changes = archive("handler.py", {"handler.py": source})
    changes["trigger"]["attributes"]["protocols"] = ["torchserve", "v1"]
    running = serve(**changes, env={"TS_SERVICE_ENVELOPE": "kserve"})
    for path in ("/v1/models/m:predict", "/predictions/m"):
        assert running.call({"instances": [1, 2]}, path) == {"predictions": [2, 4]}


def test_workers_take_turns_on_visible_gpus(serve: Serve) -> None:
    source = """
        import os

        gpus = []

        def handle(data, context):
            gpus.append(context.system_properties["gpu_id"])
            return data and [gpus[0]]
    """
    changes = archive("handler.py", {"handler.py": source})
    running = serve(workers=3, **changes, env={"CUDA_VISIBLE_DEVICES": "0,1"})
    replies = {predict(running).body for _ in range(6)}
    assert replies == {b"0", b"1"}
    running = serve(**changes, env={"CUDA_VISIBLE_DEVICES": ""})
    assert predict(running).body == b"null"


def test_two_classes_in_a_handler_are_refused_by_name(serve: Serve) -> None:
    reason = failure(serve, "handler.py", {"handler.py": TWO_CLASSES})
    assert "exactly one class, and has First, Second" in reason


def test_imported_classes_do_not_count(serve: Serve) -> None:
    source = "from base import First\n\nclass Own(First):\n    pass\n"
    files = {"handler.py": source, "base.py": TWO_CLASSES}
    running = serve(**archive("handler.py", files))
    reply = predict(running, '{"a": 1}', content_type="application/json")
    assert json.loads(reply.body) == {"body": {"a": 1}}


def test_a_class_without_initialize_is_refused(serve: Serve) -> None:
    source = "class Own:\n    def handle(self, data, context):\n        return data\n"
    assert "the class Own in handler.py has no method initialize" in failure(
        serve, "handler.py", {"handler.py": source}
    )


def test_an_import_error_in_the_handler_is_reported_as_such(serve: Serve) -> None:
    reason = failure(serve, "handler.py", {"handler.py": "import no_such_package\n"})
    assert "No module named 'no_such_package'" in reason
    assert "ts.torch_handler" not in reason


def test_a_module_of_torchserve_that_is_not_provided_names_the_remedy(serve: Serve) -> None:
    source = "from ts.torch_handler.text_handler import TextHandler\n"
    reason = failure(serve, "handler.py", {"handler.py": source})
    assert "'ts.torch_handler.text_handler': add torchserve to requirements.txt" in reason


def test_a_handler_that_does_not_exist_is_named(serve: Serve) -> None:
    reason = failure(serve, "handlers.py", {"handler.py": FUNCTION})
    assert 'there is no module "handlers"' in reason
    assert "did you mean handler?" in reason


def test_a_function_that_does_not_exist_is_named(serve: Serve) -> None:
    reason = failure(serve, "handler:predict", {"handler.py": FUNCTION})
    assert "handler.py must define a function `predict` or exactly one class" in reason


def test_a_handler_with_the_name_of_a_standard_module_is_the_archives(serve: Serve) -> None:
    running = serve(**archive("queue.py", {"queue.py": FUNCTION}))
    assert json.loads(predict(running).body)["rows"] == 1


def test_an_exception_is_in_the_log_with_its_place_and_not_in_the_reply(serve: Serve) -> None:
    source = """
        def handle(data, context):
            if data:
                raise KeyError("secret")
    """
    running = serve(**archive("handler.py", {"handler.py": source}))
    reply = predict(running)
    assert reply.status == 503
    assert json.loads(reply.body) == {
        "code": 503,
        "type": "InternalServerException",
        "message": "Prediction failed",
    }
    record = running.await_record("handle() failed", level="error")
    assert "KeyError: 'secret'" in record["message"]
    assert 'handler.py", line 4' in record["message"]
    assert "model_handler" not in record["message"]


def test_headers_keep_their_case_and_are_looked_up_by_it(serve: Serve) -> None:
    source = """
        def handle(data, context):
            if data is None:
                return
            names = ("X-Mixed-CASE", "x-mixed-case", "content-type")
            return [[context.get_request_header(0, name) for name in names]]
    """
    running = serve(**archive("handler.py", {"handler.py": source}))
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=60)
    connection.putrequest("POST", "/predictions/m")
    connection.putheader("X-Mixed-CASE", "value")
    connection.putheader("Content-Length", "0")
    connection.endheaders()
    assert json.loads(connection.getresponse().read()) == ["value", None, None]
    connection.close()


def test_plain_events_are_rows_too(serve: Serve) -> None:
    running = serve(**archive("handler.py", {"handler.py": FUNCTION}))
    assert json.loads(running.send(b"body").body)["rows"] == 1


def test_a_batch_is_one_call_with_a_row_for_each_request(serve: Serve) -> None:
    source = """
        def handle(data, context):
            if data is None:
                return
            context.set_response_status(201, "", 1)
            ids = {context.get_request_id(index) for index in range(len(data))}
            return [[row["body"].decode(), len(ids)] for row in data]
    """
    changes = archive("handler.py", {"handler.py": source})
    changes["trigger"]["batch"] = {"size": 3, "timeout": 30.0}
    running = serve(**changes)
    connections = []
    for word in ("a", "b", "c"):
        connections.append(http.client.HTTPConnection(running.url.removeprefix("http://")))
        connections[-1].request("POST", "/predictions/m", word)
        time.sleep(0.05)
    replies = [connection.getresponse() for connection in connections]
    assert [reply.status for reply in replies] == [200, 201, 200]
    assert [json.loads(reply.read()) for reply in replies] == [["a", 3], ["b", 3], ["c", 3]]
    for connection in connections:
        connection.close()


def test_a_form_that_cannot_be_read_does_not_fail_its_batch(serve: Serve) -> None:
    changes = archive("handler.py", {"handler.py": FUNCTION})
    changes["trigger"]["batch"] = {"size": 2, "timeout": 30.0}
    running = serve(**changes)
    host = running.url.removeprefix("http://")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    first, second = http.client.HTTPConnection(host), http.client.HTTPConnection(host)
    first.request("POST", "/predictions/m", "=", form)
    second.request("POST", "/predictions/m", "a=1", form)
    assert (first.getresponse().status, second.getresponse().status) == (500, 200)
    first.close()
    second.close()


def test_bodies_stay_bytes_if_requests_are_not_decoded(serve: Serve) -> None:
    source = """
        def handle(data, context):
            return data and [type(row["body"]).__name__ for row in data]
    """
    files = {"handler.py": source}
    running = serve(**archive("handler.py", files), env={"TS_DECODE_INPUT_REQUEST": "false"})
    assert predict(running, "{}", content_type="application/json").body == b"bytearray"


def test_the_kserve_envelopes_read_the_first_request_of_a_batch_only(serve: Serve) -> None:
    source = """
        def handle(data, context):
            return data and [value * 2 for value in data]
    """
    changes = archive("handler.py", {"handler.py": source})
    changes["trigger"]["batch"] = {"size": 2, "timeout": 30.0}
    running = serve(**changes, env={"TS_SERVICE_ENVELOPE": "kserve"})
    host = running.url.removeprefix("http://")
    connections = [http.client.HTTPConnection(host) for _ in range(2)]
    for connection in connections:
        connection.request("POST", "/predictions/m", '{"instances": [1]}')
    replies = [connection.getresponse() for connection in connections]
    assert [reply.status for reply in replies] == [503, 503]
    message = "number of batch response mismatched"
    assert {json.loads(reply.read())["message"] for reply in replies} == {message}
    for connection in connections:
        connection.close()


def test_an_unknown_envelope_is_refused(serve: Serve) -> None:
    files = {"handler.py": FUNCTION}
    running = serve(
        wait="unhealthy", **archive("handler.py", files), env={"TS_SERVICE_ENVELOPE": "xml"}
    )
    reason = running.status()["workers"][0]["message"]
    assert "the envelope 'xml' is not one of body, json, kserve, kservev2" in reason


STREAM = """
    import os
    import time

    from ts.handler_utils.utils import send_intermediate_predict_response

    def handle(data, context):
        if data is None:
            return None
        path = data[0]["body"].decode()
        for number in range(2):
            items = ["part %d " % number]
            send_intermediate_predict_response(items, context.request_ids, "", 200, context)
            while not os.path.exists(path):
                time.sleep(0.01)
        if path.endswith("fail"):
            raise ValueError("late")
        return ["end"]
"""


def test_intermediate_responses_arrive_before_the_handler_returns(
    serve: Serve, tmp_path: Path
) -> None:
    running = serve(**archive("handler.py", {"handler.py": STREAM}))
    go_on = tmp_path / "go-on"
    connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=60)
    connection.request("POST", "/predictions/m", str(go_on))
    response = connection.getresponse()
    assert response.read1() == b"part 0 "
    go_on.touch()
    assert response.read() == b"part 1 end"
    connection.close()
    # Another request, to the same worker.
    assert predict(running, str(go_on)).body == b"part 0 part 1 end"


def test_a_stream_that_fails_is_cut_short(serve: Serve, tmp_path: Path) -> None:
    running = serve(**archive("handler.py", {"handler.py": STREAM}))
    path = tmp_path / "fail"
    path.touch()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        predict(running, str(path))
    assert running.await_record("ValueError: late")


def test_intermediate_responses_of_a_batch_are_sent_together(serve: Serve) -> None:
    changes = archive("handler.py", {"handler.py": STREAM})
    changes["trigger"]["batch"] = {"size": 1, "timeout": 30.0}
    assert predict(serve(**changes), "/").body == b"part 0 part 1 end"


FUNCTION_OF_FNBUILD = """
    def handler(context, event):
        if event.body == b"fail":
            raise ValueError("boom")
        return context.Response(body={"path": event.path, "body": event.body.decode()})

    def explain(context, event):
        return "because"
"""


def test_a_function_of_fnbuild_answers_torchserves_clients(serve: Serve) -> None:
    trigger = {"attributes": {"protocols": ["torchserve"]}}
    running = serve(FUNCTION_OF_FNBUILD, trigger=trigger)
    reply = predict(running, b"abc", "under-test/7/more")
    assert json.loads(reply.body) == {"path": "/predictions/under-test/7/more", "body": "abc"}
    assert running.send(b"", "/explanations/under-test").body == b"because"
    failed = predict(running, b"fail", "under-test")
    assert (failed.status, json.loads(failed.body)["type"]) == (500, "InternalServerException")
    assert json.loads(predict(running, b"", "other").body)["code"] == 404


def test_a_function_without_explain_answers_501(serve: Serve) -> None:
    running = serve(
        "def handler(context, event):\n    return 1\n",
        trigger={"attributes": {"protocols": ["torchserve"]}},
    )
    reply = running.send(b"", "/explanations/under-test")
    assert (reply.status, json.loads(reply.body)["code"]) == (501, 501)


SLOW = """
    import os
    import time

    def handle(data, context):
        if data is None:
            return None
        while not os.path.exists(data[0]["body"].decode()):
            time.sleep(0.01)
        return ["done"]
"""


def test_a_full_queue_is_503(serve: Serve, tmp_path: Path) -> None:
    changes = archive("handler.py", {"handler.py": SLOW})
    changes["trigger"]["attributes"]["maxBacklog"] = 1
    running = serve(**changes)
    path = tmp_path / "go-on"
    connections = [http.client.HTTPConnection(running.url[7:], timeout=60) for _ in range(2)]
    connections[0].request("POST", "/predictions/m", str(path))
    running.await_workers("busy")
    connections[1].request("POST", "/predictions/m", str(path))
    running.await_waiting(1)
    (description,) = json.loads(running.send(b"", "/models/m", method="GET").body)
    assert description["jobQueueStatus"] == {"remainingCapacity": 0, "pendingRequests": 1}
    full = predict(running)
    assert full.status == 503
    assert json.loads(full.body)["type"] == "ServiceUnavailableException"
    assert "maxBacklog" in json.loads(full.body)["message"]
    path.touch()
    assert [connection.getresponse().read() for connection in connections] == [b"done", b"done"]
    for connection in connections:
        connection.close()


def test_a_reply_after_the_response_timeout_is_500(serve: Serve) -> None:
    running = serve(**archive("handler.py", {"handler.py": SLOW}), event_timeout=0.5)
    late = predict(running, "/no/such/file")
    assert (late.status, json.loads(late.body)["type"]) == (500, "InternalServerException")
    assert "eventTimeout" in json.loads(late.body)["message"]


def test_too_large_requests_are_413(serve: Serve) -> None:
    changes = archive("handler.py", {"handler.py": FUNCTION})
    changes["trigger"]["attributes"]["maxRequestBodySize"] = 1000
    assert predict(serve(**changes), bytes(2000)).status == 413


def test_a_ping_is_unhealthy_until_the_model_is_loaded(serve: Serve, tmp_path: Path) -> None:
    source = """
        import os
        import time

        def handle(data, context):
            while not os.path.exists("%s"):
                time.sleep(0.01)
    """
    path = tmp_path / "loaded"
    running = serve(wait=None, **archive("handler.py", {"handler.py": source % path}))
    eventually(lambda: running.send(b"", "/ping", method="GET").status == 500)
    path.touch()
    running.await_state("ready")
    reply = running.send(b"", "/ping", method="GET")
    assert (reply.status, reply.body) == (200, b'{\n  "status": "Healthy"\n}\n')
