"""Requests and replies of others are checked if CVAT could have sent the request."""

import json
from typing import Any

import pytest

from fnbuild.cvat.check.exchanges import check_exchange
from fnbuild.cvat.check.findings import FindingCollector
from fnbuild.cvat.check.pictures import check_pictures
from fnbuild.cvat.check.probe import Subject, TargetReply
from fnbuild.cvat.check.requests import sample_request
from fnbuild.function.types import Function, Metadata

PICTURES = {picture.name: picture.image for picture in check_pictures(skipped=["8000x6000"])}
FUNCTION = Function(metadata=Metadata(annotations={"spec": '[{"name": "car"}]'}))
CAR = {"label": "car", "type": "rectangle", "points": [1, 2, 30, 40]}


def check(
    kind: str, reply: Any, picture: str = "37x211", states: Any = ()
) -> list[tuple[str, str]] | None:
    request = sample_request(kind, Function(), PICTURES[picture], states).body
    return findings(kind, request, json.dumps(reply).encode())


def findings(
    kind: str, request: bytes, reply: bytes, status: int = 200
) -> list[tuple[str, str]] | None:
    """Return rule and path of each finding; None if the exchange is not checked."""
    collector, subject = FindingCollector(), Subject(FUNCTION, kind)
    is_checked = check_exchange(subject, request, TargetReply(status, reply), collector, "")
    return [(item.rule, item.path) for item in collector.findings] if is_checked else None


def test_a_detection_is_checked_against_the_picture() -> None:
    assert check("detector", [CAR]) == []
    assert check("detector", [{**CAR, "points": [1, 2, 60, 40]}]) == [
        ("points-outside", "[0].points")
    ]
    assert check("detector", [{**CAR, "points": [1, 2, 60, 40]}], "photo") == []


def test_the_counts_are_those_of_the_request() -> None:
    assert check("reid", [0, 0]) == [("reid-length", ""), ("reid-repeated", "[1]")]
    assert check("tracker", {"states": [1]}) == []
    assert check("tracker", {"states": [1]}, states=[1]) == [("shapes-list", "shapes")]
    assert check("interactor", {"mask": [[1]]}) == [("mask-size", "mask")]


@pytest.mark.parametrize(
    "request_body",
    [
        b"",
        b"[]",
        b"null",
        b'{"image": 5}',
        b'{"image": "aGVsbG8="}',
        b'{"inputs": []}',
        b"[" * 99_999,
    ],
)
def test_requests_of_other_clients_are_not_checked(request_body: bytes) -> None:
    assert findings("detector", request_body, b"[]") is None


def test_a_turned_picture_is_not_checked() -> None:
    request = sample_request("detector", Function(), PICTURES["EXIF orientation"]).body
    assert findings("detector", request, b"[]") is None


def test_a_reply_that_is_not_json_is_a_finding() -> None:
    request = sample_request("detector", Function(), PICTURES["1x1"]).body
    assert findings("detector", request, b"Internal error") == [("reply-json", "")]
    assert findings("detector", request, b'"[]"') == [("reply-type", "")]


def test_an_error_is_a_finding() -> None:
    request = sample_request("detector", Function(), PICTURES["1x1"]).body
    assert findings("detector", request, b"out of memory", 500) == [("status", "")]
