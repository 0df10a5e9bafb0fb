"""The body of a request is parsed as by the json module, whatever its content."""

import base64
import json
import random

import nuclio_sdk
import pytest

from fnbuild.vision import ImageError, fields, image_file
from fnbuild.vision import request_body as reading
from tests.vision.conftest import base64_of, event_of

PNG = b"\x89PNG\r\n\x1a\n" + bytes(range(256)) * 20
TEXT = base64_of(PNG)
LONG = "x" * 5000


def body_of(text):
    return f'{{"threshold":0.5,"image":"{text}"}}'.encode()


WELL_FORMED = {
    "alone": '{"image":"%s"}',
    "spaced": ' \n{ "image" :\t"%s" , "threshold": 0.5 }\r\n',
    "last": '{"pos_points":[[1,2],[3,4.5]],"neg_points":[],"obj_bbox":null,"image":"%s"}',
    "after a nested one": '{"states":[{"image":"no"}],"image":"%s"}',
    "after a quote": '{"text":"say \\"image\\": \\"","image":"%s"}',
    "after backslashes": '{"path":"c:\\\\","image":"%s"}',
    "after its own name as a value": '{"a":"image","b":["image"],"image":"%s"}',
    "beside a long text": '{"text":"' + LONG + '","image":"%s"}',
    "twice, the last counts": '{"image":"' + LONG + '","image":"%s"}',
    "twice, the first is short": '{"image":"","image":"%s"}',
    "key with an escape": '{"im\\u0061ge":"%s"}',
    "deep": '{"a":' + "[" * 200 + "]" * 200 + ',"image":"%s"}',
    "many strings": '{"names":[' + ",".join(['"a"'] * 5000) + '],"image":"%s"}',
    "beside long nested strings": '{"states":[{"image":"' + LONG + '"}],"image":"%s"}',
}


@pytest.mark.parametrize("body", WELL_FORMED.values(), ids=WELL_FORMED)
def test_the_image_is_found_and_the_rest_is_kept(body):
    raw = body.replace("%s", TEXT).encode()
    event = event_of(raw)
    assert image_file(event) == PNG
    reply = json.loads(raw)
    del reply["image"]
    assert fields(event) == reply
    assert event.body["image"] == TEXT


@pytest.mark.parametrize("body", WELL_FORMED.values(), ids=WELL_FORMED)
def test_an_event_that_is_already_parsed(body):
    raw = body.replace("%s", TEXT).encode()
    parsed = event_of(raw)
    assert parsed.body["image"] == TEXT
    for event in (parsed, nuclio_sdk.Event(body=json.loads(raw)), nuclio_sdk.Event(body=raw)):
        assert image_file(event) == PNG
        assert "image" not in fields(event)


def test_a_usual_body_is_not_parsed_completely():
    event = event_of(body_of(TEXT))
    assert image_file(event) == PNG
    assert fields(event) == {"threshold": 0.5}
    assert "body" not in vars(event)


def test_two_images_and_other_keys():
    other = PNG + b"other"
    body = {"image0": TEXT, "image1": base64_of(other), "boxes0": [], "frame": TEXT}
    event = event_of(json.dumps(body).encode())
    assert image_file(event, "image1") == other
    assert image_file(event, "image0") == PNG
    assert image_file(event, "frame") == PNG
    assert fields(event) == {"boxes0": [], "frame": TEXT}
    assert fields(event, without=["frame", "image0"]) == {
        "boxes0": [],
        "image1": base64_of(other),
    }


def test_a_replaced_body_is_used():
    event = event_of(body_of(TEXT))
    assert image_file(event) == PNG
    event.body = {"image": base64_of(b"new"), "threshold": 1}
    assert image_file(event) == b"new"
    assert fields(event) == {"threshold": 1}


def test_the_event_can_still_be_written_as_json():
    event = event_of(body_of(TEXT))
    image_file(event)
    assert json.loads(event.to_json())["body"] == {"image": TEXT, "threshold": 0.5}


@pytest.mark.parametrize("kind", ["image/png", "application/octet-stream", "application/json", ""])
def test_an_image_as_the_body_itself(kind):
    event = event_of(PNG, kind)
    assert image_file(event) == PNG
    assert fields(event) == {}
    assert image_file(nuclio_sdk.Event(body=bytearray(PNG))) == PNG
    assert image_file(nuclio_sdk.Event(body=memoryview(PNG))) == PNG


@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace("/", "\\/"),
        "data:image/png;base64," + TEXT,
        "\\r\\n".join(TEXT[i : i + 76] for i in range(0, len(TEXT), 76)),
        base64.encodebytes(PNG).decode().replace("\n", "\\n"),
    ],
    ids=["escaped slashes", "data URI", "lines", "lines of Python"],
)
def test_base64_as_clients_write_it(text):
    assert image_file(event_of(body_of(text))) == PNG


@pytest.mark.parametrize("size", [1, 2, 3, 4, 1000, 1001, 1002])
def test_every_length(size):
    data = bytes(range(256))[:size] + bytes(max(0, size - 256))
    assert image_file(event_of(body_of(base64_of(data)))) == data


@pytest.mark.parametrize(
    "text",
    [
        TEXT[:-1],
        TEXT[:-2] + "=",
        TEXT[1:],
        TEXT[:2000] + "*" + TEXT[2001:],
        TEXT[:2000] + "****" + TEXT[2000:],
        TEXT[:2000] + "=" + TEXT[2001:],
        TEXT + "AAAA",
        TEXT[:2000] + "é" + TEXT[2001:],
        TEXT.replace("/", "_"),
        "***",
        "A",
    ],
)
def test_text_that_is_not_base64(text):
    with pytest.raises(ImageError, match='"image" is not base64'):
        image_file(event_of(json.dumps({"image": text}, ensure_ascii=False).encode()))
    with pytest.raises(ImageError, match='"image" is not base64'):
        image_file(nuclio_sdk.Event(body={"image": text}))


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (b"", "not valid JSON"),
        (b"{}", '"image" is missing'),
        (b'{"image":null}', '"image" is missing'),
        (b'{"image":["' + TEXT.encode() + b'"]}', '"image" is missing'),
        (b'{"deep":{"image":"' + TEXT.encode() + b'"}}', '"image" is missing'),
        (b'{"image":""}', "is empty"),
        (b'{"image":"' + TEXT.encode(), "not valid JSON"),
        (b'{"image":"' + TEXT.encode() + b'"', "not valid JSON"),
        (b'{"image" "' + TEXT.encode() + b'"}', "not valid JSON"),
        (b'{"image":"' + TEXT.encode() + b'"} x', "not valid JSON"),
        (b"[1]", "neither a JSON object nor"),
        (b'"text"', "neither a JSON object nor"),
        (b"hello", "neither a JSON object nor"),
        (b"{" + b"\xff" * 10 + b"}", "not valid JSON"),
        (b'{"a":' * 100_000, "not valid JSON"),
        ("\ufeff{}".encode(), "neither a JSON object nor"),
    ],
)
def test_an_invalid_request_is_reported(body, message):
    for content_type in ("application/json", "text/plain"):
        with pytest.raises(ImageError, match=message):
            image_file(event_of(body, content_type))


@pytest.mark.parametrize("body", [None, [], "text", 3])
def test_bodies_that_are_not_objects(body):
    with pytest.raises(ImageError, match="not a JSON object"):
        image_file(nuclio_sdk.Event(body=body))
    with pytest.raises(ImageError, match="not a JSON object"):
        fields(nuclio_sdk.Event(body=body))


class Documents:
    """Random JSON texts with quotes, escapes and keys inside values, which mislead a scanner."""

    KEYS = ("image", "image0", "im\\u0061ge", "x", 'a\\"image', "image\\\\", "")
    PIECES = ("A", "/", "\\/", '\\"', "\\\\", "\\n", "{", ":", "é", '\\"image\\":', "}")

    def __init__(self, seed):
        self.random = random.Random(seed)

    def text(self):
        document = self.space() + self.object(0) + self.space()
        if self.random.random() < 0.3:
            place = self.random.randrange(len(document))
            wrong = self.random.choice(['"', "\\", "{", "}", ":", ",", ""])
            document = document[:place] + wrong + document[place + self.random.randint(0, 2) :]
        return document

    def space(self):
        return self.random.choice(["", "", " ", "\n", "\t \r"])

    def object(self, depth):
        pairs = (
            f'{self.space()}"{self.random.choice(self.KEYS)}"{self.space()}:{self.value(depth)}'
            for _ in range(self.random.randint(0, 5))
        )
        return "{" + ",".join(pairs) + "}"

    def value(self, depth):
        kind = self.random.random()
        if kind < 0.3:
            return '"' + "AbC0" * self.random.randint(1, 9) + '"'
        if kind < 0.5:
            letters = self.random.choices(self.PIECES, k=self.random.choice([0, 3, 20]))
            return '"' + "".join(letters) + '"'
        if kind < 0.6 or depth > 2:
            return self.random.choice(["1", "-2.5e3", "true", "null", "[]", "{}"])
        if kind < 0.8:
            return self.space() + self.object(depth + 1) + self.space()
        values = (self.value(depth + 1) for _ in range(self.random.randint(0, 3)))
        return "[" + ",".join(values) + "]"


def test_the_result_equals_that_of_the_json_module(monkeypatch):
    monkeypatch.setattr(reading, "_LONG_STRING", 8)
    documents = Documents(7)
    quick = 0
    for _ in range(20_000):
        text = documents.text()
        try:
            expected = json.loads(text)
        except ValueError:
            expected = None
        event = event_of(text.encode())
        try:
            content = reading.read_body(event)
        except ImageError:
            assert not isinstance(expected, dict), text
            continue
        parsed = {
            key: str(value, "utf-8") if isinstance(value, memoryview) else value
            for key, value in content.values.items()
        }
        assert list(parsed.items()) == list(expected.items()), text
        quick += any(isinstance(value, memoryview) for value in content.values.values())
    assert quick > 1000


def test_text_like_a_placeholder_stays_text():
    text = reading._PLACEHOLDER + "0"
    event = event_of(json.dumps({"a": text, "image": TEXT}).encode())
    assert fields(event) == {"a": text}
    assert image_file(event) == PNG


def test_pybase64_is_used_if_available(monkeypatch):
    calls = []

    def decode(value, validate):
        calls.append(validate)
        return base64.b64decode(bytes(value), validate=validate)

    monkeypatch.setattr(reading, "_fast_b64decode", decode)
    assert image_file(event_of(body_of(TEXT))) == PNG
    with pytest.raises(ImageError, match="not base64"):
        image_file(event_of(body_of(TEXT + "*")))
    assert calls
    assert all(calls)


def test_large_bodies_are_not_copied_before_they_are_decoded():
    text = b"A" * 40_000_000
    event = event_of(b'{"image":"' + text + b'"}')
    view = reading.read_body(event).values["image"]
    assert view.obj is event.raw_body
    assert len(image_file(event)) == 30_000_000
