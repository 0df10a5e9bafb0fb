"""The replies for the return values of handlers."""

from __future__ import annotations

import json
from typing import Any

import nuclio_sdk
import pytest
from nuclio_sdk.json_encoder import Encoder

from fnbuild.runtime.worker.responses import ReplyConverter, ReplyError

pytestmark = pytest.mark.system

HANDLER = """
import decimal
import http
import sys


class Odd(object):
    def __repr__(self):
        return "odd one"


class Logged(object):
    def __log__(self):
        return {"seen": True}


def iter_odd():
    yield Odd()


def chunks():
    yield "first,"
    yield b"second,"
    yield 3


async def later():
    yield (202, "first,")
    yield "second"


def loop():
    value = []
    value.append(value)
    return value


CASES = {
    "str": lambda c: "text \\u00fc",
    "bytes": lambda c: b"\\x00\\xff",
    "bytearray": lambda c: bytearray(b"\\x01"),
    "dict": lambda c: {"a": [1, None]},
    "list": lambda c: [{"label": "cat"}, 2],
    "empty_list": lambda c: [],
    "none": lambda c: None,
    "int": lambda c: 42,
    "triple": lambda c: (1, 2, 3),
    "pair_text": lambda c: (201, "made"),
    "pair_json": lambda c: (http.HTTPStatus.ACCEPTED, ["x"]),
    "pair_bytes": lambda c: (200, b"\\xfe"),
    "nan": lambda c: {"a": float("nan"), "b": float("-inf")},
    "object": lambda c: {"b": Logged()},
    "response_object": lambda c: c.Response(body={"b": [Logged()]}),
    "tuple_in_list": lambda c: [(1, 2), {"a": (3,)}],
    "decimal": lambda c: decimal.Decimal("1.50"),
    "response_no_type": lambda c: c.Response(body="x", content_type=None),
    "odd": lambda c: Odd(),
    "odd_body": lambda c: c.Response(body=Odd()),
    "odd_deep": lambda c: [{"label": "a", "points": [1, 2, 3, Odd()]}],
    "odd_pair": lambda c: (200, {"a": Odd()}),
    "odd_response": lambda c: c.Response(body={"a b": Odd()}),
    "odd_triple": lambda c: (1, 2, [Odd()]),
    "odd_item": lambda c: iter_odd(),
    "set": lambda c: {"a": {1}},
    "bytes_in_list": lambda c: [b"x"],
    "type_number": lambda c: c.Response(body="x", content_type=7),
    "type_bytes": lambda c: c.Response(body="x", content_type=b"text/html"),
    "response": lambda c: c.Response(
        body="x", headers={"X-A": 1, "X-B": True}, content_type="text/html", status_code="418"
    ),
    "response_dict": lambda c: c.Response(body={"a": 1}, content_type="text/html"),
    "response_list": lambda c: c.Response(body=["a"]),
    "response_type": lambda c: c.Response(body=b"x", headers={"content-type": "image/png"}),
    "response_204": lambda c: c.Response(status_code=204),
    "response_zero": lambda c: c.Response(body="x", status_code=0),
    "several": lambda c: c.Response(body="", headers={"X-Many": ["a", "b"], "Content-Length": 9}),
    "generator": lambda c: chunks(),
    "async_generator": lambda c: later(),
    "response_generator": lambda c: c.Response(body=chunks(), content_type="text/csv"),
    "injection": lambda c: c.Response(body="", headers={"X-A": "a\\r\\nX-Evil: 1"}),
    "injection_type": lambda c: c.Response(body="", content_type="a\\r\\nX-Evil: 1"),
    "bad_name": lambda c: c.Response(body="", headers={"X A": "a"}),
    "bad_headers": lambda c: c.Response(body="", headers="X-A: a"),
    "bad_status": lambda c: ("ok", "text"),
    "far_status": lambda c: (1000, "text"),
    "bool_status": lambda c: (True, "text"),
    "circle": lambda c: loop(),
    "keys": lambda c: {(1, 2): 3},
    "surrogate": lambda c: "\\ud800",
    "exit": lambda c: sys.exit(3),
    "broken": lambda c: broken(),
}


class Broken(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def broken():
    raise Broken()


def interrupt():
    raise KeyboardInterrupt()


CASES["interrupt"] = lambda c: interrupt()


def handler(context, event):
    return CASES[event.path.strip("/")](context)
"""

TEXT, JSON = "text/plain", "application/json"


@pytest.fixture(scope="module")
def processor(serve_module: Any) -> Any:
    return serve_module(HANDLER)


GOOD: dict[str, tuple[int, str, bytes]] = {
    "str": (200, TEXT, "text ü".encode()),
    "bytes": (200, TEXT, b"\x00\xff"),
    "bytearray": (200, TEXT, b"\x01"),
    "dict": (200, JSON, b'{"a": [1, null]}'),
    "list": (200, JSON, b'[{"label": "cat"}, 2]'),
    "empty_list": (200, JSON, b"[]"),
    "none": (200, TEXT, b"None"),
    "int": (200, TEXT, b"42"),
    "triple": (200, TEXT, b"(1, 2, 3)"),
    "pair_text": (201, TEXT, b"made"),
    "pair_json": (202, JSON, b'["x"]'),
    "pair_bytes": (200, TEXT, b"\xfe"),
    "nan": (200, JSON, b'{"a": "NaN", "b": "-Infinity"}'),
    "object": (200, JSON, b'{"b": {"seen": true}}'),
    "response_object": (200, JSON, b'{"b": [{"seen": true}]}'),
    "tuple_in_list": (200, JSON, b'[[1, 2], {"a": [3]}]'),
    "decimal": (200, TEXT, b"1.50"),
    "response_no_type": (200, TEXT, b"x"),
    "response": (418, "text/html", b"x"),
    "response_dict": (200, JSON, b'{"a": 1}'),
    "response_list": (200, JSON, b'["a"]'),
    "response_type": (200, "image/png", b"x"),
    "response_204": (204, TEXT, b""),
    "response_zero": (200, TEXT, b"x"),
    "generator": (200, TEXT, b"first,second,3"),
    "async_generator": (202, TEXT, b"first,second"),
    "response_generator": (200, "text/csv", b"first,second,3"),
}


@pytest.mark.parametrize("case", GOOD)
def test_return_values(processor: Any, case: str) -> None:
    answer = processor.send(path="/" + case)
    assert (answer.status, answer.header("content-type"), answer.body) == GOOD[case]


def test_header_values_become_text(processor: Any) -> None:
    answer = processor.send(path="/response")
    assert (answer.header("x-a"), answer.header("x-b")) == ("1", "True")


def test_a_list_of_values_becomes_several_headers(processor: Any) -> None:
    answer = processor.send(path="/several")
    assert answer.header("x-many") == "b"
    assert answer.header("content-length") == "0"


BAD = {
    "injection": "header X-A contains a line break",
    "injection_type": "header Content-Type contains a line break",
    "bad_name": "'X A' cannot be the name of a header",
    "bad_headers": "headers are a str, not a dict",
    "bad_status": "status 'ok' is not a number",
    "far_status": "status 1000 is not between 200 and 599",
    "bool_status": "status True",
    "circle": "cannot be written as JSON",
    "keys": "cannot be written as JSON: it has the key (1, 2), a tuple",
    "odd": "the reply is a main.Odd; return text",
    "odd_body": "the reply is a main.Odd; return text",
    "odd_deep": 'cannot be written as JSON: [0]["points"][3] is a main.Odd; JSON has',
    "odd_pair": 'cannot be written as JSON: ["a"] is a main.Odd',
    "odd_response": 'cannot be written as JSON: ["a b"] is a main.Odd',
    "odd_triple": "[2][0] is a main.Odd",
    "odd_item": "the reply is a main.Odd",
    "set": '["a"] is a set',
    "bytes_in_list": "[0] is a bytes",
    "type_number": "content_type is a int, not a string: 7",
    "type_bytes": "content_type is a bytes, not a string: b'text/html'",
    "surrogate": "UTF-8 cannot encode",
    "exit": "SystemExit: 3",
    "interrupt": "KeyboardInterrupt",
    "broken": "Broken",
}


@pytest.mark.parametrize("case", BAD)
def test_invalid_replies_are_explained_and_keep_the_worker(processor: Any, case: str) -> None:
    answer = processor.send(path="/" + case)
    assert answer.status == 500
    assert BAD[case] in answer.body.decode()
    assert answer.header("x-evil") is None
    assert processor.send(path="/int").body == b"42"
    assert processor.status()["workers"][0]["restarts"] == 0


def test_logs_are_returned_on_request(serve: Any) -> None:
    processor = serve(
        """
        def handler(context, event):
            context.logger.debug("small")
            context.logger.info_with("boxes", count=2)
            context.logger.warn("x" * (5000 if event.path == "/much" else 1))
            return ""
        """
    )
    assert processor.send().header("x-nuclio-logs") is None
    records = json.loads(processor.send(x_nuclio_log_level="info").header("x-nuclio-logs"))
    assert [(r["level"], r["message"]) for r in records] == [("info", "boxes"), ("warn", "x")]
    assert records[0]["count"] == 2
    assert records[0]["time"] > 1e12
    for level in ("", "nonsense", "debug"):
        records = json.loads(processor.send(x_nuclio_log_level=level).header("x-nuclio-logs"))
        assert len(records) == 3, level
    assert processor.send(path="/much", x_nuclio_log_level="debug").header("x-nuclio-logs") is None
    processor.await_record("too large")


def test_numpy_values_are_named_in_the_error() -> None:
    numpy = pytest.importorskip("numpy")
    converter = ReplyConverter(nuclio_sdk.Response, Encoder)
    cases: dict[str, Any] = {
        '[0]["points"][3] is a numpy.float32': [{"points": [1, 2, 3, numpy.float32(0.5)]}],
        '["boxes"] is a numpy.ndarray; its tolist() returns': {"boxes": numpy.zeros((2, 2))},
        '["ok"] is a numpy.bool': {"ok": numpy.bool_(True)},
        "the reply is a numpy.ndarray; its tolist() returns": numpy.zeros(2),
        "[1] is a numpy.ndarray": (1, numpy.zeros(2), 3),
    }
    for message, value in cases.items():
        with pytest.raises(ReplyError) as raised:
            converter.convert(value)
        assert message in str(raised.value)
        with pytest.raises(ReplyError) as raised:
            converter.convert(nuclio_sdk.Response(body=value))
        assert message in str(raised.value)
    # NumPy's double is a float.
    assert converter.convert([numpy.float64(0.5)]).body == b"[0.5]"
    assert converter.convert(numpy.float32(0.5)).body == b"0.5"


def test_deep_and_wide_replies() -> None:
    converter = ReplyConverter(nuclio_sdk.Response, Encoder)
    deep: Any = object()
    for _ in range(50_000):
        deep = [deep]
    with pytest.raises(ReplyError):
        converter.convert(deep)
    with pytest.raises(ReplyError, match=r"\[99999\] is a object"):
        converter.convert([1] * 99_999 + [object()])
