"""Requests for fnbuild.vision: events of both kinds, and images encoded in every form."""

import base64
import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nuclio_sdk
import pytest
from PIL import Image

from fnbuild.runtime.worker.events import make_event_class
from fnbuild.vision import decoding

Event = make_event_class(nuclio_sdk)


def event_of(body: bytes, content_type: str = "application/json") -> Any:
    """The event that a worker gives to its handler."""
    meta = {"i": "1", "ts": 0, "ct": content_type, "m": "POST", "p": "/", "u": "", "h": [], "q": ""}
    return Event(meta, body, nuclio_sdk.TriggerInfo("http", "http"))


def base64_of(data: bytes) -> str:
    return base64.b64encode(data).decode()


def request_of(data: bytes, **more: Any) -> Any:
    return event_of(json.dumps({"image": base64_of(data), **more}).encode())


def encoded(image: Image.Image, kind: str = "PNG", **options: Any) -> bytes:
    out = io.BytesIO()
    # Greyscale images must not have a colour profile.
    image.info.pop("icc_profile", None)
    image.save(out, kind, **options)
    return out.getvalue()


@pytest.fixture
def small(photo: Callable[[str], Path]) -> Image.Image:
    """A photograph of 301 x 203 in RGB: odd, so that halves of pixels show."""
    return Image.open(photo("astronaut.png")).convert("RGB").resize((301, 203))


@pytest.fixture(params=["opencv and pillow", "opencv", "pillow"])
def backend(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """Run the test with each set of libraries that an environment may have."""
    if request.param == "opencv":
        monkeypatch.setattr(decoding, "_has_pillow", lambda: False)
    elif request.param == "pillow":
        monkeypatch.setattr(decoding, "cv2", None)
    return str(request.param)
