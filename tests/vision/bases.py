"""Functions of the bases, called as a worker calls them."""

import base64
import io
import json
import logging
from typing import Any

import nuclio_sdk
import numpy as np
from PIL import Image

from fnbuild import vision
from tests.vision.conftest import event_of


class Logger(nuclio_sdk.Logger):  # type: ignore[misc]
    """The logger of Nuclio and of fnbuild's workers, which keeps its messages."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG, f"vision-{id(self)}")
        self.messages: list[str] = []
        handler = logging.Handler()
        handler.emit = lambda record: self.messages.append(record.getMessage())  # type: ignore[method-assign]
        self._logger.handlers = [handler]


class Exported:
    """An exported class with a context of its own."""

    def __init__(self, function_class: type) -> None:
        self.init_context, self.handler = vision.export(function_class)
        self.logger = Logger()
        self.context: Any = nuclio_sdk.Context(logger=self.logger)
        self.init_context(self.context)

    @property
    def function(self) -> Any:
        """The instance of the class."""
        return self.context.user_data.function

    def event(self, values: dict[str, Any], path: str = "/") -> Any:
        event = event_of(json.dumps(values).encode())
        event.path = path
        return event

    def __call__(self, image: Any = None, path: str = "/", **values: Any) -> tuple[int, Any]:
        if image is not None:
            values["image"] = encoded(image)
        response = self.handler(self.context, self.event(values, path))
        return response.status_code, json.loads(response.body)


def encoded(image: Any) -> str:
    """Return the base64 of a PNG file."""
    out = io.BytesIO()
    Image.fromarray(np.asarray(image)).save(out, "PNG")
    return base64.b64encode(out.getvalue()).decode()
