"""Time from the body of a request to an array: fnbuild.vision and the route of CVAT's functions.

    python -m bench.decoding [--image FILE] [--rounds 41]

The request has a JPEG of 1920 x 1080 as CVAT sends it. CVAT's functions parse the body as JSON,
decode the base64, open the image with Pillow, convert it to RGB and copy it to an array. The first
row has each route where it runs: Pillow's in a plain Python process, as under Nuclio's processor,
and fnbuild.vision in a process with the memory settings of fnbuild's workers. The second row has
both with these settings. All processes take turns, use one thread and must give the same pixels.
"""

from __future__ import annotations

import argparse
import base64
import hashlib
import io
import json
import multiprocessing
import statistics
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import nuclio_sdk
import numpy as np
from PIL import Image

from fnbuild import vision
from fnbuild.runtime import allocator
from fnbuild.runtime.worker.events import make_event_class

SIZE = (1920, 1080)
_EVENT_CLASS = make_event_class(nuclio_sdk)


class Route(NamedTuple):
    """A way to read a request, and True for the memory settings of fnbuild's workers."""

    name: str
    tuned: bool


CVAT = Route("pillow", False)
TUNED_PILLOW = Route("pillow", True)
OURS = Route("vision", True)


def make_request(path: Path | None, size: tuple[int, int] = SIZE) -> bytes:
    """Return the body of a detector's request: a photograph, or smooth noise without a file."""
    if path is None:
        noise = np.random.default_rng(1).integers(0, 256, (size[1] // 8, size[0] // 8, 3), np.uint8)
        image = Image.fromarray(noise).resize(size, Image.Resampling.BICUBIC)
    else:
        image = Image.open(path).convert("RGB").resize(size)
    stream = io.BytesIO()
    image.save(stream, "JPEG", quality=90)
    text = base64.b64encode(stream.getvalue()).decode()
    return json.dumps({"image": text, "threshold": 0.5}).encode()


def _event(body: bytes) -> Any:
    """Return the event that a worker gives to its handler."""
    meta: dict[str, Any] = dict.fromkeys("uq", "") | {"i": "1", "ts": 0, "h": []}
    meta |= {"ct": "application/json", "m": "POST", "p": "/"}
    return _EVENT_CLASS(meta, body, nuclio_sdk.TriggerInfo("http", "http"))


def _decode_with_pillow(event: Any) -> tuple[Any, float]:
    """Return image and threshold as CVAT's functions read them."""
    data = event.body
    buffer = io.BytesIO(base64.b64decode(data["image"]))
    threshold = float(data.get("threshold", 0.5))
    return np.array(Image.open(buffer).convert("RGB")), threshold


def _decode_with_vision(event: Any) -> tuple[Any, float]:
    """Return image and threshold as the bases read them."""
    return vision.decode(event), vision.fields(event).get("threshold", 0.5)


_DECODERS = {"pillow": _decode_with_pillow, "vision": _decode_with_vision}


def _prepare(tuned: bool) -> None:
    if tuned:
        allocator.tune()
    cv2.setNumThreads(1)


def _measure(name: str, body: bytes, repeats: int) -> tuple[list[float], str]:
    """Return milliseconds of each call, and a digest of the pixels."""
    times = []
    for _ in range(repeats):
        event = _event(body)
        started = time.perf_counter()
        image, _ = _DECODERS[name](event)
        times.append(1000 * (time.perf_counter() - started))
    return times, hashlib.sha256(image.tobytes()).hexdigest()


def compare(body: bytes, rounds: int, routes: Sequence[Route]) -> list[float]:
    """Return the median milliseconds of each route, in a process of its own."""
    context = multiprocessing.get_context("spawn")
    times: list[list[float]] = [[] for _ in routes]
    digests = set()
    pools = [context.Pool(1, _prepare, (route.tuned,)) for route in routes]
    try:
        for _ in range(rounds):
            for route, pool, own_times in zip(routes, pools, times, strict=True):
                # The first call of a turn finds the caches of the processor cold.
                measured, digest = pool.apply(_measure, (route.name, body, 4))
                own_times.extend(measured[1:])
                digests.add(digest)
    finally:
        for pool in pools:
            pool.terminate()
    if len(digests) > 1:
        raise RuntimeError("the routes give different pixels")
    return [statistics.median(own_times) for own_times in times]


def main() -> None:
    """Print the medians and their ratios."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--image", type=Path, help="photograph that is scaled to 1920 x 1080")
    parser.add_argument("--rounds", type=int, default=41)
    options = parser.parse_args()
    body = make_request(options.image)
    cvat, tuned, ours = compare(body, options.rounds, (CVAT, TUNED_PILLOW, OURS))
    print(f"request of {len(body) / 1e6:.2f} MB, equal pixels, fnbuild.vision {ours:.1f} ms")
    print(f"Pillow as in CVAT's functions: {cvat:.1f} ms, {cvat / ours:.2f} times")
    print(f"Pillow in fnbuild's workers:   {tuned:.1f} ms, {tuned / ours:.2f} times")


if __name__ == "__main__":
    main()
