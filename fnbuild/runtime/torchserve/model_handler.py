"""The handler of an archive in a worker: events to TorchServe's rows, its results to replies."""

import io
import json
import os
import sys
from typing import Any, Callable, Dict, List, NamedTuple, Sequence, Tuple

from .. import tracebacks
from ..nvml import Nvml, NvmlError, load_library
from ..protocols import torchserve
from .context import Context
from .handler_api import __version__
from .metrics import Metrics
from .request_rows import FormError, read_row

_JSON = "application/json"
_BYTES = "application/octet-stream"
_TEXT = "text/plain; charset=utf-8"


class EntryPoint(NamedTuple):
    """The functions of a handler: `handle(data, context)` and `initialize(context)`."""

    handle: Callable[[Any, Any], Any]
    initialize: Callable[[Any], Any]


class Archive(NamedTuple):
    """An unpacked archive: its folder, the name of its model, manifest and model-config.yaml."""

    folder: str
    model_name: str
    manifest: Dict[str, Any]
    model_config: Dict[str, Any]


class _CallError(Exception):
    """The call failed for all its requests, which get this status and message."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


class ArchiveHandler:
    """The handler of a worker for the model of an archive. `create` returns its entry point."""

    def __init__(self, archive: Archive, create: Callable[[], EntryPoint]) -> None:
        self._archive = archive
        self._create = create
        self._entry_point: Any = None
        self._decodes = os.environ.get("TS_DECODE_INPUT_REQUEST", "true") == "true"

    def init_context(self, context: Any) -> None:
        """Create the handler and load the model."""
        archive = self._archive
        properties = {
            "model_dir": archive.folder,
            "gpu_id": _gpu_id(int(context.worker_id or 0)),
            "batch_size": int(os.environ.get("TS_BATCH_SIZE") or 1),
            "server_name": "MMS",
            "server_version": __version__,
            "limit_max_image_pixels": os.environ.get("TS_LIMIT_MAX_IMAGE_PIXELS") != "false",
        }
        metrics = Metrics(archive.model_name, lambda line: context.logger.debug("%s", line))
        name, manifest, config = archive.model_name, archive.manifest, archive.model_config
        self._context = Context(name, manifest, properties, config, metrics)
        entry_point = self._create()
        entry_point.initialize(self._context)
        self._entry_point = entry_point

    def __call__(self, context: Any, event: Any) -> Any:
        """Return the reply to an event, or those to a list of events, which are one call."""
        if isinstance(event, list):
            return self._replies(context, event, False)
        return self._replies(context, [event], False)[0]

    def explain(self, context: Any, event: Any) -> Any:
        """Return the reply with the explanation of an event."""
        return self._replies(context, [event], True)[0]

    def _replies(self, context: Any, events: Sequence[Any], explains: bool) -> List[Any]:
        if self._entry_point is None:
            # The module has been reloaded.
            self.init_context(context)
        replies: List[Any] = [None] * len(events)
        rows, headers, indexes = [], [], []
        for index, event in enumerate(events):
            try:
                row, fields = read_row(event.copy_body(), event.content_type, self._decodes)
            except FormError as error:
                replies[index] = _error_reply(context, 500, str(error), "ErrorDataDecoderException")
                continue
            rows.append(row)
            headers.append(_request_headers(event, fields, explains))
            indexes.append(index)
        self._context.begin([events[index].id for index in indexes], headers)
        # Only the reply to an event of its own can be sent before it is complete.
        push_reply = getattr(events[0], "push_reply", None)
        for index, reply in zip(indexes, self._call(context, rows, push_reply) if rows else ()):
            replies[index] = reply
        return replies

    def _call(self, context: Any, rows: List[Any], push_reply: Any) -> List[Any]:
        """Call the handler; return the reply to each row."""
        pieces: List[List[bytes]] = [[] for _ in rows]

        def send(items: Sequence[Any]) -> None:
            for index, item in enumerate(items):
                if push_reply is not None:
                    push_reply(self._reply(context, index, item))
                else:
                    pieces[index].append(_encode_item(item)[0])

        self._context.send_intermediate = send
        try:
            results = self._handle(context, rows)
            replies = [self._reply(context, *pair) for pair in enumerate(results)]
        except _CallError as error:
            return [_error_reply(context, error.status, str(error))] * len(rows)
        for reply, earlier in zip(replies, pieces):
            reply.body = b"".join([*earlier, reply.body])
        return replies

    def _reply(self, context: Any, index: int, item: Any) -> Any:
        body, content_type = _encode_item(item)
        headers = dict(self._context.get_response_headers(index))
        content_type = headers.pop("content-type", None) or content_type
        status, _ = self._context.get_response_status(index)
        return context.Response(headers, body, content_type, status)

    def _handle(self, context: Any, rows: List[Any]) -> List[Any]:
        try:
            results = self._entry_point.handle(rows, self._context)
        except Exception as error:  # noqa: BLE001 - a handler may raise anything
            raise _call_error(context, error) from None
        if not isinstance(results, list):
            context.logger.error("handle() returned a %s, not a list" % type(results).__name__)
            raise _CallError(503, "Invalid model predict output")
        if len(results) != len(rows):
            message = "handle() returned %d items for %d requests" % (len(results), len(rows))
            context.logger.error(message)
            raise _CallError(503, "number of batch response mismatched")
        return results


def _call_error(context: Any, error: Any) -> _CallError:
    """Log an exception of the handler; return the error for the clients."""
    context.logger.error("%s", "handle() failed: %s" % tracebacks.format_error(error))
    # Without the import of this module the handler cannot raise it.
    kind: Any = getattr(sys.modules.get("ts.utils.util"), "PredictionException", ())
    if isinstance(error, kind):
        # TorchServe sends 507 in place of 413.
        status = 507 if error.error_code == 413 else error.error_code
        return _CallError(status, error.message)
    if isinstance(error, MemoryError) or "CUDA" in str(error):
        return _CallError(507, "Out of resources")
    return _CallError(503, "Prediction failed")


def _error_reply(
    context: Any, status: int, message: str, kind: str = "InternalServerException"
) -> Any:
    answer = torchserve.error_answer(status, message, kind)
    return context.Response({}, answer.encode(answer.value), _JSON, status)


def _encode_item(item: Any) -> Tuple[bytes, str]:
    """Return an item of the handler's result as bytes, and their type; raise _CallError."""
    if isinstance(item, (bytes, bytearray)):
        return bytes(item), _BYTES
    if isinstance(item, str):
        return item.encode("utf-8"), _TEXT
    torch: Any = sys.modules.get("torch")
    if torch is not None and isinstance(item, torch.Tensor):
        buffer = io.BytesIO()
        torch.save(item, buffer)
        return buffer.getvalue(), _BYTES
    try:
        return json.dumps(item, indent=2).encode("ascii"), _JSON
    except (TypeError, ValueError, RecursionError):
        raise _CallError(503, "Unsupported model output data type.") from None


def _request_headers(event: Any, parts: Dict[str, Any], explains: bool) -> Dict[str, Any]:
    """Return the headers of an event as written, with those that TorchServe adds."""
    extra = event.path.split("/")[4:] if event.path.startswith(torchserve.PREFIXES) else ()
    return dict(
        parts, **dict(event.written_headers), explain=str(explains), url_path="/".join(extra)
    )


def _gpu_id(worker: int) -> Any:
    """Return the GPU of a worker, or None without GPUs: workers take turns."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    try:
        count = Nvml(load_library()).count if visible is None else len(visible.split(","))
    except (NvmlError, OSError):
        return None
    return worker % count if count and visible != "" else None
