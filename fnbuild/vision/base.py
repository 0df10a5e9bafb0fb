"""The base of all kinds of functions, and the handler that Nuclio and fnbuild call.

A class describes a function: `load` runs once in each worker, and other methods answer requests.
`export` returns the functions of its module that are called.
"""

import os
import sys
import traceback
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple, Type

from .decoding import decode
from .errors import RequestError
from .labels import Label, read_label_spec
from .request_body import fields
from .shapes import reply

_PROTOCOLS = ("v1", "v2")


class LazyAttribute:
    """An attribute that is computed on first access; an assigned value replaces it."""

    def __init__(self, compute: Callable[[Any], Any]) -> None:
        self._compute = compute
        self.__doc__ = compute.__doc__

    def __set_name__(self, owner: Any, name: str) -> None:
        self._name = name

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        if instance is None:
            return self
        value = self._compute(instance)
        instance.__dict__[self._name] = value
        return value


class Request(NamedTuple):
    """A request: its event, and the values beside its images.

    `protocol` is "v1" or "v2" for a request of that inference protocol, else "".
    """

    event: Any
    values: Dict[str, Any]
    protocol: str

    def number(self, key: str, default: float, highest: float = 1.0) -> float:
        """Return a number from 0 to `highest`; raise `RequestError` for any other value."""
        # Parameters of a V2 request apply to all its images.
        parameters = self.values.get("parameters")
        source = (
            self.values if key in self.values or not isinstance(parameters, dict) else parameters
        )
        # CVAT leaves a threshold of 0 out, too.
        value = source.get(key, default)
        if (
            isinstance(value, bool)
            or not isinstance(value, (int, float))
            or not 0 <= value <= highest
        ):
            limits = "from 0 to %g" % highest if highest < float("inf") else "from 0 on"
            raise RequestError('"%s" must be a number %s' % (key, limits))
        return value


class Function:
    """A function that answers requests.

    `mode` is the form of images: "RGB", "BGR" or "L" for grey. `threshold` applies to requests
    without one. `max_pixels` limits images, see `decode`. `export` sets `function_folder`, the
    folder of the module. `required_methods` has tuples of methods, of each of which a function
    defines at least one.
    """

    required_methods: Tuple[Tuple[str, ...], ...] = (("read",), ("answer", "answer_all"))
    mode = "RGB"
    threshold = 0.5
    max_pixels: Any = None
    function_folder = ""

    def load(self, context: Any) -> None:
        """Load the model; runs once in each worker, before its first request."""

    @LazyAttribute
    def label_spec(self) -> List[Label]:
        """The parsed label spec of the function's own function.yaml."""
        return read_label_spec([self.function_folder or os.getcwd(), os.getcwd()])

    @LazyAttribute
    def labels(self) -> List[str]:
        """The names of the labels."""
        return [label["name"] for label in self.label_spec]

    def read(self, event: Any) -> Any:
        """Return the request of an event; raise `RequestError` if it is invalid."""
        raise NotImplementedError

    def answer(self, request: Any) -> Any:
        """Return the content of the reply to a request from `read`."""
        raise NotImplementedError

    def answer_all(self, requests: List[Any]) -> List[Any]:
        """Return the content of the reply to each request, or an exception in its place."""
        return [attempt(self.answer, request) for request in requests]

    def decode(self, event: Any, key: str = "image") -> Any:
        """Return the image at a key of an event's body."""
        return decode(event, key, mode=self.mode, max_pixels=self.max_pixels)


def read_request(event: Any) -> Request:
    """Return the request of an event, without its images."""
    values = fields(event)
    head = (getattr(event, "path", None) or "").lstrip("/").partition("/")[0]
    return Request(event, values, head if head in _PROTOCOLS else "")


def export(function_class: Type[Function]) -> Tuple[Callable[..., Any], Callable[..., Any]]:
    """Return `init_context` and `handler` for a class.

    The handler answers events and batches of them. Raises TypeError for a class without a method
    that its kind needs.
    """
    _require_methods(function_class)
    file = getattr(sys.modules.get(function_class.__module__), "__file__", None)
    function_class.function_folder = os.path.dirname(os.path.abspath(file)) if file else ""

    def init_context(context: Any) -> None:
        function = function_class()
        # An invalid spec is an error of the start, not of a request.
        _ = function.label_spec
        function.load(context)
        context.user_data.function = function

    def handler(context: Any, event: Any) -> Any:
        function = context.user_data.function
        if type(function) is not function_class:
            # `fnbuild watch` has loaded new code; what `load` has loaded stays.
            function.__class__ = function_class
        if isinstance(event, (list, tuple)):
            return _answer_batch(context, function, event)
        result = _results(function, [event])[0]
        if isinstance(result, Exception) and not isinstance(result, RequestError):
            raise result
        return _response(context, result)

    return init_context, handler


def _require_methods(function_class: Type[Function]) -> None:
    kind = next(base for base in function_class.__mro__ if "required_methods" in vars(base))
    for names in function_class.required_methods:
        if all(getattr(function_class, name) in (None, getattr(kind, name)) for name in names):
            needed = " or ".join(names)
            raise TypeError("%s needs a method %s" % (function_class.__name__, needed))


def attempt(function: Callable[..., Any], *arguments: Any) -> Any:
    """Return the function's result, or its exception."""
    try:
        return function(*arguments)
    # Of several requests, the others get their answers.
    except Exception as error:  # noqa: BLE001
        return error


def _results(function: Function, events: Sequence[Any]) -> List[Any]:
    """Return the content of the reply to each event, or an exception in its place."""
    results = [attempt(function.read, event) for event in events]
    valid = [index for index, item in enumerate(results) if not isinstance(item, Exception)]
    if valid:
        answers = function.answer_all([results[index] for index in valid])
        for index, item in zip(valid, answers):  # noqa: B905 - no strict in 3.6
            results[index] = item
    return results


def _answer_batch(context: Any, function: Function, events: Sequence[Any]) -> List[Any]:
    responses = []
    for event, result in zip(events, _results(function, events)):  # noqa: B905
        response = attempt(_response, context, result)
        if isinstance(response, Exception):
            # The content of this reply alone cannot be encoded.
            response = _response(context, response)
        response.event_id = event.id
        responses.append(response)
    return responses


def _response(context: Any, result: Any) -> Any:
    if isinstance(result, RequestError):
        # CVAT does not show the text of an error to its user.
        context.logger.warn("answered %d: %s" % (result.reply_status, result))
        return reply(context, {"error": str(result)}, result.reply_status)
    if isinstance(result, Exception):
        lines = traceback.format_exception(type(result), result, result.__traceback__)
        context.logger.error("".join(lines))
        return reply(context, {"error": "%s: %s" % (type(result).__name__, result)}, 500)
    return reply(context, result)
