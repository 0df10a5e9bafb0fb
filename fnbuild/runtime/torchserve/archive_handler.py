"""A function of fnbuild as the handler of an archive, in a worker of TorchServe.

TorchServe calls `handle(None, context)` once, then `handle(data, context)` for each batch of
requests. Events, replies and log records are those of fnbuild's own workers, as far as TorchServe
passes what they have: it drops the method and the query of a request, and takes forms apart, which
are joined again here.
"""

import fcntl
import json
import logging
import os
import sys
import time
from http.client import responses
from typing import Any, Dict, Tuple
from urllib.parse import urlencode

from .. import wire
from ..logs import LEVELS
from ..worker import process_setup
from ..worker.handler_calls import NoExplainerError
from ..worker.logger import flush_output, json_variables
from ..worker.responses import ReplyError, WorkerReply
from ..worker.worker import Worker
from . import BUSY_LOCK_VARIABLE

_MOUNT_POINT = "/opt/nuclio"
_VISIBLE_GPUS = "CUDA_VISIBLE_DEVICES"
# The parts of forms and the keys that have the body, by TorchServe's convention.
_BODY_KEYS = ("data", "body")
# Entries that TorchServe adds to the headers.
_EXPLAIN, _PATH = "explain", "url_path"


class ArchivedFunction:
    """The function of an archive.

    `settings` are those of `builder.processor_settings`, with the environment variables as `env`.
    """

    def __init__(self, settings: Dict[str, Any]) -> None:
        self._settings = settings
        self._busy_lock = -1

    def handle(self, data: Any, context: Any) -> Any:
        """Load the function if `data` is None; otherwise return a reply for each request."""
        if data is None:
            self._load(context)
            return None
        if self._busy_lock >= 0:
            fcntl.flock(self._busy_lock, fcntl.LOCK_SH)
        try:
            headers = [context.get_all_request_header(index) for index in range(len(data))]
            replies = self._worker.answer_rows(data, headers, context.get_request_id)
            flush_output()
        finally:
            if self._busy_lock >= 0:
                fcntl.flock(self._busy_lock, fcntl.LOCK_UN)
        return [_send(reply, index, context) for index, reply in enumerate(replies)]

    def _load(self, context: Any) -> None:
        properties = context.system_properties
        select_gpu(properties.get("gpu_id"))
        settings = self._settings
        os.environ.update(
            process_setup.function_variables(settings["function"], settings["handler"])
        )
        os.environ.update(settings["env"])
        # TorchServe's worker then leaves bodies as they came.
        os.environ["TS_DECODE_INPUT_REQUEST"] = "false"
        busy_lock = os.environ.get(BUSY_LOCK_VARIABLE)
        if busy_lock:
            self._busy_lock = os.open(busy_lock, os.O_RDWR | os.O_CREAT, 0o666)
        folder = os.path.abspath(properties["model_dir"])
        folder, report = process_setup.mount_folder(folder, _MOUNT_POINT, False)
        for warning in report["warnings"]:
            sys.stdout.write(warning + "\n")
        self._worker = ArchiveWorker(settings, folder)
        self._worker.load()
        self._worker.begin_in_torchserve()


class ArchiveWorker(Worker):
    """A worker without processor: records go to stdout, and replies have any size."""

    def __init__(self, settings: Dict[str, Any], folder: str) -> None:
        function = settings["function"]
        setup = {
            "handler": settings["handler"],
            "arguments": settings.get("arguments", []),
            "model": function["name"],
            "namespace": function["namespace"] or "nuclio",
            "mount": _MOUNT_POINT,
            "sdk_path": "",
            "neighbours": "",
        }
        Worker.__init__(self, setup, folder)
        self._level = LEVELS[settings["log"]["level"]]
        self._trigger_name, self._takes_batches = "http", False
        for name, trigger in settings["triggers"].items():
            if trigger["kind"] == "http":
                self._trigger_name, self._takes_batches = name, trigger["batch"] is not None

    def begin_in_torchserve(self) -> None:
        """Run init_context, with any exception of its code."""
        log_handler = logging.StreamHandler(sys.stdout)
        log_handler.setFormatter(_RecordFormatter("%(levelname)s %(message)s"))
        log_handler.setLevel(self._level)
        self._channel = self._sender = _NoProcessor()  # type: ignore[assignment]
        trigger = {"kind": "http", "name": self._trigger_name}
        self._init_context(log_handler, {"trigger": trigger, "worker": _worker_number()})

    def answer_rows(self, rows: Any, headers: Any, request_id: Any) -> Any:
        """Return the replies to the requests of a batch."""
        events = [
            self.make_event(*make_request(row, headers[index], request_id(index) or ""))
            for index, row in enumerate(rows)
        ]
        if self._takes_batches:
            return self.answer_batch(events)[0]
        return [
            self._answer(event, headers[index].get(_EXPLAIN) == "True")
            for index, event in enumerate(events)
        ]

    def _answer(self, event: Any, explain: bool) -> WorkerReply:
        try:
            return self.convert_whole(self.explain(event) if explain else self.call(event))
        except NoExplainerError:
            return self.invalid_reply("the function has no explain(context, event)")
        except ReplyError as problem:
            return self.invalid_reply(str(problem))
        # An error of the handler must not fail the other requests of the batch.
        except BaseException as error:  # noqa: BLE001
            return self.failed_event(error)


class _NoProcessor:
    """The place of the channel to a processor, and of its limits."""

    def send(self, kind: int, meta: wire.Meta) -> None:
        """Ignore a message."""

    def check_size(self, size: int) -> None:
        """Accept any size."""


class _RecordFormatter(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        variables = json_variables(getattr(record, "with", {}))
        text = logging.Formatter.format(self, record)
        return "%s %s" % (text, json.dumps(variables, default=repr)) if variables else text


def select_gpu(gpu_id: Any) -> None:
    """Make the GPU that TorchServe has assigned the only visible one, so that `cuda` is that one.

    Without an assigned one no GPU is visible, since the model is to run on the CPU.
    """
    visible = [name for name in os.environ.get(_VISIBLE_GPUS, "").split(",") if name]
    if gpu_id is None:
        os.environ[_VISIBLE_GPUS] = ""
    else:
        os.environ[_VISIBLE_GPUS] = visible[gpu_id] if gpu_id < len(visible) else str(gpu_id)


def make_request(row: Any, headers: Dict[str, Any], identity: str) -> Tuple[wire.Meta, bytes]:
    """Return meta and body of the event for a row of data; `headers` are those of TorchServe."""
    # The types of a form's parts are among the headers, as dictionaries.
    pairs = [(name, value) for name, value in headers.items() if isinstance(value, str)]
    pairs = [pair for pair in pairs if pair[0] not in (_EXPLAIN, _PATH)]
    types = [value for name, value in pairs if name.lower() == "content-type"]
    content_type, body = request_body(row, headers, types[-1] if types else "")
    meta = {
        "i": identity,
        "ts": int(time.time()),
        "m": "POST",
        "p": "/" + headers.get(_PATH, ""),
        "q": "",
        "u": "",
        "h": pairs,
        "ct": content_type,
    }
    return meta, body


def request_body(row: Any, headers: Dict[str, Any], content_type: str) -> Tuple[str, bytes]:
    """Return the content type and the body of a request.

    If a form has only the part `data` or `body`, as clients of TorchServe send files, it is that
    part.
    """
    kind = content_type.partition(";")[0].strip().lower()
    if not isinstance(row, dict):
        return content_type, _to_bytes(row)
    if kind == "multipart/form-data":
        name = next(iter(row), "")
        if len(row) == 1 and name in _BODY_KEYS:
            return _part_type(headers, name), _to_bytes(row[name])
        return content_type, _join_parts(row, headers, content_type)
    if kind == "application/x-www-form-urlencoded":
        fields = {name: _to_bytes(value) for name, value in row.items()}
        return content_type, urlencode(fields).encode("ascii")
    return content_type, _to_bytes(next((row[key] for key in _BODY_KEYS if key in row), row))


def _join_parts(row: Dict[str, Any], headers: Dict[str, Any], content_type: str) -> bytes:
    """Return a form with the boundary of its content type."""
    boundary = content_type.partition("boundary=")[2].partition(";")[0].strip('" ')
    body = b""
    for name, value in row.items():
        head = '--%s\r\nContent-Disposition: form-data; name="%s"\r\nContent-Type: %s\r\n\r\n'
        kind = _part_type(headers, name) or "text/plain"
        body += (head % (boundary, name, kind)).encode("utf-8")
        body += _to_bytes(value) + b"\r\n"
    return body + b"--%s--\r\n" % boundary.encode("ascii")


def _part_type(headers: Dict[str, Any], name: str) -> str:
    part = headers.get(name)
    return str(part.get("content-type", "")) if isinstance(part, dict) else ""


def _to_bytes(value: Any) -> bytes:
    if isinstance(value, (bytes, bytearray)):
        return bytes(value)
    return (value if isinstance(value, str) else json.dumps(value)).encode("utf-8")


def _send(reply: WorkerReply, index: int, context: Any) -> bytes:
    """Set the status and the headers of a reply; return its body."""
    context.set_response_status(reply.status, responses.get(reply.status, ""), index)
    headers: Dict[str, str] = {}
    for name, value in reply.headers:
        # TorchServe reads the type under this name, and has one value for each header.
        key = "content-type" if name.lower() == "content-type" else name
        headers[key] = "%s, %s" % (headers[key], value) if key in headers else value
    for name, value in headers.items():
        context.set_response_header(index, name, value)
    return reply.body


def _worker_number() -> str:
    """Return the number that TorchServe has given to this worker: that of its socket."""
    name = sys.argv[sys.argv.index("--sock-name") + 1] if "--sock-name" in sys.argv else ".0"
    return name.rpartition(".")[2]
