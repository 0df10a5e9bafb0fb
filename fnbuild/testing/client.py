"""A client of a function in this process, which sends the requests of CVAT."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image

from fnbuild.cvat.replies import ParsedReply, read_reply
from fnbuild.cvat.request import CvatRequest, EncodedImage, build_request, read_image, upright_image
from fnbuild.cvat.shapes import Box, Point, Shape
from fnbuild.function.labels import function_labels, tracked_shape_types
from fnbuild.function.reader import load_function
from fnbuild.runtime.worker.responses import WorkerReply
from fnbuild.testing.loaded_handler import LoadedHandler

_JSON = "application/json"


@dataclass(frozen=True, slots=True)
class Reply:
    """A reply: its status and its body."""

    status: int
    body: bytes

    def json(self) -> Any:
        """Return the decoded body."""
        return json.loads(self.body)


class Client:
    """A function of a folder, loaded as a worker loads it.

    `env` are variables in addition to those of function.yaml, `variant` is that of an overlay.
    Images are paths, bytes of image files, NumPy arrays in RGB or grey, or Pillow images. A reply
    that CVAT would reject raises AssertionError with all its problems, and so does an error.
    """

    def __init__(
        self,
        folder: str | Path,
        *,
        env: Mapping[str, str] | None = None,
        variant: str | None = None,
    ) -> None:
        loaded = load_function(Path(folder), variant=variant)
        self.function = loaded.function
        self._labels = function_labels(self.function)
        self._shape_types = tracked_shape_types(self.function)
        self._handler = LoadedHandler(loaded, env or {})

    @property
    def context(self) -> Any:
        """The context of the handler; `user_data` has what `init_context` has loaded."""
        return self._handler.context

    def call(
        self, body: Any, *, path: str = "/", content_type: str = _JSON, method: str = "POST"
    ) -> Reply:
        """Return the reply to a body: bytes, or a value that becomes JSON."""
        event = self._event(body, path=path, content_type=content_type, method=method)
        return _reply(self._handler.answer(event))

    def call_batch(self, bodies: Sequence[Any]) -> list[Reply]:
        """Return the reply to each body of a batch; the handler is called once."""
        events = [self._event(body) for body in bodies]
        return [_reply(answer) for answer in self._handler.answer_batch(events)]

    def detect(self, image: Any, *, threshold: float | None = None, **values: Any) -> list[Shape]:
        """Return the shapes of a detector; `values` are in the request, too."""
        sent = build_request("detector", _encoded(image), threshold=threshold)
        return list(self._ask(sent, values).shapes)

    def interact(
        self,
        image: Any,
        *,
        positive: Sequence[Point] = (),
        negative: Sequence[Point] = (),
        box: Box | None = None,
        **values: Any,
    ) -> list[Shape]:
        """Return the masks of an interactor for clicks and a box."""
        boxes = [] if box is None else [box]
        sent = build_request(
            "interactor", _encoded(image), pos_points=positive, neg_points=negative, boxes=boxes
        )
        return list(self._ask(sent, values).shapes)

    def track(self, images: Sequence[Any], box: Box) -> list[Shape | None]:
        """Return the shape of a box in each image, in the first of which it is drawn.

        None stands for a reply without the shape.
        """
        states: tuple[Any, ...] = ()
        tracked: list[Shape | None] = []
        for image in images:
            sent = build_request(
                "tracker",
                _encoded(image),
                boxes=[] if states else [box],
                shape_types=self._shape_types,
                states=states,
            )
            reading = self._ask(sent, {})
            states = reading.states
            tracked.append(reading.shapes[0] if reading.shapes else None)
        return tracked

    def match(
        self,
        image0: Any,
        boxes0: Sequence[Box],
        image1: Any,
        boxes1: Sequence[Box],
        **values: Any,
    ) -> list[int]:
        """Return the index in `boxes1`, or -1, of each box of `boxes0`."""
        sent = build_request(
            "reid", _encoded(image0), boxes=boxes0, image1=_encoded(image1), boxes1=boxes1
        )
        return list(self._ask(sent, values).matches)

    def _event(
        self, body: Any, *, path: str = "/", content_type: str = _JSON, method: str = "POST"
    ) -> Any:
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._handler.event(data, content_type=content_type, path=path, method=method)

    def _ask(self, sent: CvatRequest, values: Mapping[str, Any]) -> ParsedReply:
        body = sent.body if not values else json.dumps(json.loads(sent.body) | values).encode()
        reply = self.call(body)
        if reply.status != 200:
            raise AssertionError(f"the function answered {reply.status}: {reply.body.decode()}")
        reading = read_reply(sent.kind, reply.body, self._labels, sent.image.size, sent)
        if reading.violations:
            raise AssertionError("\n".join(map(str, reading.violations)))
        return reading


def _reply(answer: WorkerReply) -> Reply:
    return Reply(answer.status, bytes(answer.body))


def _encoded(image: Any) -> EncodedImage:
    if isinstance(image, str | Path):
        return read_image(Path(image))
    if isinstance(image, bytes):
        return upright_image(image)
    if not isinstance(image, Image.Image):
        image = Image.fromarray(image)
    out = io.BytesIO()
    image.save(out, "PNG")
    return EncodedImage(out.getvalue(), "PNG", image.size)
