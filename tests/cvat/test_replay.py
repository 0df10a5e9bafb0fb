"""Requests are sent to two functions; a request without a reply is a difference."""

import json
from pathlib import Path

import pytest
from PIL import Image

from fnbuild.cvat.check.probe import TargetReply
from fnbuild.cvat.replay import RecordedRequest, replay, requests_of_pictures
from fnbuild.errors import UnavailableError
from fnbuild.function.types import Function, Metadata

REPLY = TargetReply(200, b"[]", 0.1)
FUNCTION = Function(metadata=Metadata(name="cars", annotations={"type": "detector"}))


def request(name: str) -> RecordedRequest:
    return RecordedRequest(name, "POST", "/", {}, b"{}", REPLY)


def test_a_request_without_a_reply_differs_and_the_others_are_compared() -> None:
    def crash_once(sent: RecordedRequest) -> TargetReply:
        if sent.name == "1":
            raise UnavailableError("the connection ended")
        if sent.name == "2":
            raise TimeoutError("no answer within 5 s")
        return REPLY

    sent = [request(str(number)) for number in range(4)]
    results = list(replay(sent, lambda _: REPLY, crash_once, FUNCTION, 0.95))
    assert [result.comparison.note for result in results] == [
        "",
        "the connection ended",
        "no answer within 5 s",
        "",
    ]
    assert [result.comparison.differs for result in results] == [False, True, True, False]


def test_a_function_that_does_not_answer_any_more_ends_the_comparison() -> None:
    def refuse(_: RecordedRequest) -> TargetReply:
        raise UnavailableError("connection refused")

    sent = (request(str(number)) for number in range(9))
    with pytest.raises(UnavailableError, match="connection refused"):
        list(replay(sent, lambda _: REPLY, refuse, FUNCTION, 0.95))
    assert len(list(sent)) == 6


def test_a_picture_becomes_the_request_that_the_function_declares(tmp_path: Path) -> None:
    Image.new("RGB", (40, 20)).save(tmp_path / "a.png")
    annotations = {"type": "tracker", "supported_shape_types": "rectangle"}
    function = Function(metadata=Metadata(name="cars", annotations=annotations))
    (sent,) = requests_of_pictures([tmp_path / "a.png"], function)
    assert json.loads(sent.body)["shapes"] == [{"type": "rectangle", "points": [10, 5, 30, 15]}]
