"""Send recorded requests to two functions, and compare their replies."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fnbuild.cvat.check.probe import TargetReply
from fnbuild.cvat.check.requests import sample_request
from fnbuild.cvat.comparison import Comparison, compare_replies
from fnbuild.cvat.request import EncodedImage, read_image, upright_image
from fnbuild.errors import FnbuildError, InputError, UnavailableError
from fnbuild.function.labels import Label, function_kind, function_labels
from fnbuild.function.types import Function
from fnbuild.runtime.recording import files

PICTURES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".gif", ".tif", ".tiff")
_MAX_UNANSWERED = 3


@dataclass(frozen=True, slots=True)
class RecordedRequest:
    """A request to send again, with the reply that was recorded, if there is one."""

    name: str
    method: str
    path: str
    headers: dict[str, str]
    body: bytes
    reply: TargetReply | None = None


@dataclass(frozen=True, slots=True)
class ReplayResult:
    """The replies to a request from both sides, and how they differ."""

    request: RecordedRequest
    before: TargetReply
    after: TargetReply
    comparison: Comparison
    image: EncodedImage | None


Sender = Callable[[RecordedRequest], TargetReply]


def recorded_reply(request: RecordedRequest) -> TargetReply:
    """Return the recorded reply. Raises `InputError` if there is none."""
    if request.reply is None:
        raise InputError(
            f"{request.name} has no recorded reply", hint="`--against` names a function to compare"
        )
    return request.reply


def read_requests(folder: Path) -> Iterator[RecordedRequest]:
    """Yield the requests in the folder of a recording, oldest first; damaged ones are left out."""
    for entry in files.read_entries(str(folder)):
        header = entry.header
        reply = TargetReply(header["status"], entry.reply, header["seconds"])
        yield RecordedRequest(
            entry.name, header["method"], header["path"], header["headers"], entry.request, reply
        )


def requests_of_pictures(paths: Sequence[Path], function: Function) -> Iterator[RecordedRequest]:
    """Yield CVAT's request for each picture, as `fnbuild check` sends it."""
    kind = function_kind(function) or "detector"
    for path in paths:
        sent = sample_request(kind, function, read_image(path))
        headers = {"content-type": sent.content_type}
        yield RecordedRequest(path.name, "POST", "/", headers, sent.body)


def replay(
    requests: Iterable[RecordedRequest],
    before: Sender,
    after: Sender,
    function: Function,
    least: float,
) -> Iterator[ReplayResult]:
    """Yield the comparison of the replies to each request.

    No reply differs from any reply. Raises `UnavailableError` if several requests get none.
    """
    kind, labels = function_kind(function), function_labels(function)
    unanswered = 0
    for request in requests:
        old, new = _reply_of(before, request), _reply_of(after, request)
        unanswered = 0 if old.status and new.status else unanswered + 1
        if unanswered == _MAX_UNANSWERED:
            raise UnavailableError((old if new.status else new).body.decode())
        image = picture_of(request)
        size = image.size if image is not None else None
        comparison = _compare(kind, old, new, labels, size, least)
        yield ReplayResult(request, old, new, comparison, image)


def _reply_of(sender: Sender, request: RecordedRequest) -> TargetReply:
    """Return the reply to a request; without one, the error with the status 0."""
    began = time.monotonic()
    try:
        return sender(request)
    except (TimeoutError, UnavailableError) as error:
        return TargetReply(0, str(error).encode(), time.monotonic() - began)


def _compare(  # noqa: PLR0913, PLR0917 - the replies, and how to read them
    kind: str | None,
    old: TargetReply,
    new: TargetReply,
    labels: list[Label],
    size: tuple[int, int] | None,
    least: float,
) -> Comparison:
    if not (old.status and new.status):
        return Comparison(note=(old if new.status else new).body.decode())
    if old.status != new.status:
        return Comparison(note=f"status {old.status} became {new.status}")
    if not old.ok:
        return Comparison(same=1)
    return compare_replies(kind, old.body, new.body, labels, size, least)


def picture_of(request: RecordedRequest) -> EncodedImage | None:
    """Return the picture of a request, None without a valid one."""
    try:
        value: Any = json.loads(request.body)
        if isinstance(value, dict):
            return upright_image(base64.b64decode(value.get("image") or value["image0"]))
    except (ValueError, KeyError, TypeError, FnbuildError):
        pass
    return None
