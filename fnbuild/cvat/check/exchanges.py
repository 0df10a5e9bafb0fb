"""Apply the rules to relayed and recorded requests and their replies."""

from __future__ import annotations

import base64
import io
import json

from PIL import Image, UnidentifiedImageError

from fnbuild.cvat.check.findings import FindingCollector
from fnbuild.cvat.check.probe import Subject, TargetReply
from fnbuild.cvat.replies import read_reply
from fnbuild.cvat.request import ORIENTATION, CvatRequest, EncodedImage
from fnbuild.function import labels

_TURNED = range(5, 9)
"""EXIF orientations of pictures whose width and height are exchanged."""


def check_exchange(
    subject: Subject, request: bytes, reply: TargetReply, collector: FindingCollector, name: str
) -> bool:
    """Add the findings about the reply to a request of CVAT; return False for another client's.

    A picture with an EXIF orientation is not checked, since CVAT sends none.
    """
    kind, function = subject.kind, subject.function
    sent = _parse_request(kind, request, labels.tracked_shape_types(function))
    if sent is None:
        return False
    if not reply.ok:
        collector.add(name, "status", "", reply.failure_message)
        return True
    declared = labels.function_labels(function)
    parsed = read_reply(kind, reply.body, declared, sent.image.size, sent)
    collector.add_reply(name, parsed.diagnostics, reply.content)
    return True


def _parse_request(kind: str, body: bytes, shape_types: tuple[str, ...]) -> CvatRequest | None:
    try:
        fields = json.loads(body)
        image = _read_size(fields["image0" if kind == "reid" else "image"])
        if kind == "reid":
            counts: tuple[int, ...] = len(fields["boxes0"]), len(fields["boxes1"])
        else:
            counts = (len(fields["shapes"]),) if kind == "tracker" else ()
        follows = kind == "tracker" and bool(fields.get("states"))
    except (ValueError, RecursionError, KeyError, TypeError, AttributeError):
        return None
    if image is None:
        return None
    return CvatRequest(
        kind, b"", image, counts=counts, continues_track=follows, shape_types=shape_types
    )


def _read_size(text: str) -> EncodedImage | None:
    """Return the size of a picture in base64, without decoding its pixels."""
    try:
        with Image.open(io.BytesIO(base64.b64decode(text))) as image:
            if image.getexif().get(ORIENTATION) in _TURNED:
                return None
            return EncodedImage(b"", image.format or "", image.size)
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError, SyntaxError):
        return None
