"""The workloads: request bodies, and the replies that the handler itself gives to them.

The replies are computed by calling the handler directly, in a separate environment, once for each
payload.
"""

from __future__ import annotations

import base64
import io
import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .catalog import CACHE, FOLDER, ROOT, SHARED, Server, UnknownNameError, load_catalog
from .forms import FORMS, JSON_HEADERS, Content, Headers

# `-vision`: the handler takes the image from the request with fnbuild.vision instead of by hand.
TITLES = {
    "echo": "1 KB of JSON, returned",
    "jpeg": "200 KB JPEG in JSON, decoded with Pillow",
    "jpeg-vision": "the same, decoded with fnbuild.vision",
    "torch": "the JPEG, decoded with Pillow, through a small torch CNN",
    "torch-vision": "the same, decoded with fnbuild.vision",
    "large": "8 MB of JSON, its base64 decoded by hand",
    "large-vision": "the same, decoded with fnbuild.vision",
    "v1": "the 200 KB JPEG as an instance of V1",
    "v2": "the JPEG as a BYTES tensor of V2 in binary data",
    "grpc": "the JPEG as a BYTES tensor over gRPC",
    "tensor": "8 MB of FP32 in binary data of V2",
}
# Workloads of the inference protocols, which only servers with a form for them take part in.
PROTOCOLS = {"v1": ["v1"], "v2": ["v2"], "grpc": ["grpc"], "tensor": ["v2"]}

_ECHO_BYTES = 1024
_JPEG_BYTES = 200_000
_LARGE_BYTES = 6_000_000
_ARRAY_ELEMENTS = 2_000_000
_ARRAY_STEP = 1000
# Different replies reveal a server that confuses its clients.
_VARIANTS = 4


@dataclass(frozen=True)
class Payload:
    """One body with its headers, and the reply that the handler gives to it."""

    body: bytes
    expected: Any
    headers: Headers = JSON_HEADERS


@dataclass(frozen=True)
class Workload:
    """Payloads: the first one is timed; the others are for the check before.

    Workloads of the inference protocols have the contents that other forms are made of.
    """

    name: str
    payloads: tuple[Payload, ...]
    form: str = "plain"
    contents: tuple[Content, ...] = ()

    def for_server(self, server: Server) -> Workload | None:
        """Return the workload in the form that the server reads; None if it takes no part."""
        if not self.contents:
            return self if server.classic else None
        name = server.forms.get(self.name)
        if name is None:
            return None
        encoded = [FORMS[name].encode(content) for content in self.contents]
        payloads = tuple(
            Payload(body, payload.expected, headers)
            for (headers, body), payload in zip(encoded, self.payloads, strict=True)
        )
        return Workload(self.name, payloads, name, self.contents)

    @property
    def body_file(self) -> Path:
        """Return the file with the timed body, for programs that read it themselves."""
        path = CACHE / "payloads" / f"{self.name}-{self.form}"
        body = self.payloads[0].body
        if not path.is_file() or path.read_bytes() != body:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(body)
        return path


def choose_workloads(names: str | None) -> list[str]:
    """Return the workloads of a comma-separated list, or all."""
    choices = list(TITLES)
    if names is None:
        return choices
    wanted = [name.strip() for name in names.split(",")]
    unknown = [name for name in wanted if name not in choices]
    if unknown:
        raise UnknownNameError(
            f"no such workload: {', '.join(unknown)} (there are {', '.join(choices)})"
        )
    return wanted


def make_workload(name: str, python: Path | None = None) -> Workload:
    """Return the workload with the replies that `python` (of the shared environment) computes."""
    if name in PROTOCOLS:
        return _protocol_workload(name, python)
    bodies = [json.dumps(value).encode() for value in _values(name)]
    replies = _replies(name, bodies, python or load_catalog().environments[SHARED].python)
    return Workload(name, tuple(Payload(b, r) for b, r in zip(bodies, replies, strict=True)))


def _protocol_workload(name: str, python: Path | None) -> Workload:
    if name == "tensor":
        contents = tuple(Content(_array(number), True) for number in range(_VARIANTS))
        count, ones = _ARRAY_ELEMENTS, _ARRAY_ELEMENTS // _ARRAY_STEP
        sums = [{"size": count, "sum": float(ones * (n + 1))} for n in range(_VARIANTS)]
        return Workload(name, tuple(Payload(b"", s) for s in sums), contents=contents)
    jpeg = make_workload("jpeg", python)
    contents = tuple(Content(_jpeg(number)) for number in range(_VARIANTS))
    return Workload(name, jpeg.payloads, contents=contents)


def _array(number: int) -> bytes:
    """Return FP32 whose sum has no rounding."""
    import numpy

    array = numpy.zeros(_ARRAY_ELEMENTS, "<f4")
    array[::_ARRAY_STEP] = number + 1
    return array.tobytes()


def _values(name: str) -> list[dict[str, Any]]:
    if name == "echo":
        return [_echo(number) for number in range(_VARIANTS)]
    if name.startswith("large"):
        return [
            {"image": base64.b64encode(bytes([number]) * (_LARGE_BYTES + number)).decode()}
            for number in range(_VARIANTS)
        ]
    return [{"image": base64.b64encode(_jpeg(number)).decode()} for number in range(_VARIANTS)]


def _echo(number: int) -> dict[str, Any]:
    value = {"number": number, "labels": ["person", "car"], "points": [0.5, 12, 1e-3], "text": ""}
    value["text"] = "x" * (_ECHO_BYTES - len(json.dumps(value)))
    return value


def _jpeg(number: int) -> bytes:
    """Return a JPEG of 1280 x 720 (each variant slightly lower) with about 200 KB."""
    import numpy
    from PIL import Image

    random = numpy.random.default_rng(number)
    height, width = 720 - 16 * number, 1280
    coarse = random.integers(0, 256, (height // 16, width // 16, 3), dtype=numpy.uint8)
    smooth = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    grain = random.normal(0, 9, (height, width, 1))
    pixels = (numpy.asarray(smooth) + grain).clip(0, 255).astype(numpy.uint8)
    return min(
        (_encoded(pixels, quality) for quality in range(30, 98, 2)),
        key=lambda data: abs(len(data) - _JPEG_BYTES),
    )


def _encoded(pixels: Any, quality: int) -> bytes:
    from PIL import Image

    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "JPEG", quality=quality)
    return stream.getvalue()


_DIRECT = """
import calling, json, sys
calling.prepare()
for line in sys.stdin.buffer:
    print(json.dumps(calling.call(line.rstrip(b"\\n"))))
"""


def _replies(name: str, bodies: list[bytes], python: Path) -> list[Any]:
    ready = CACHE / "direct"
    ready.mkdir(parents=True, exist_ok=True)
    done = subprocess.run(
        [str(python), "-c", _DIRECT],
        input=b"\n".join(bodies),
        env={**os.environ, **handler_environment(name, ready)},
        capture_output=True,
        timeout=120,
        check=False,
    )
    if done.returncode != 0:
        raise RuntimeError(f"the handler cannot run {name}:\n{done.stderr.decode()}")
    return [json.loads(line) for line in done.stdout.splitlines()]


def handler_environment(workload: str, ready: Path) -> dict[str, str]:
    """Return the environment in which the handler finds its modules and its workload."""
    places = [FOLDER / "apps", FOLDER / "function"]
    if workload.endswith("-vision"):
        places.append(ROOT)
    return {
        "BENCH_WORKLOAD": workload,
        "BENCH_PROTOCOLS": " ".join(PROTOCOLS.get(workload, ())),
        "BENCH_READY": str(ready),
        "PYTHONPATH": os.pathsep.join(map(str, places)),
    }
