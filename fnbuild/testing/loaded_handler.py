"""A function's handler in this process, with the loader, events and replies of a worker.

All functions may use the same names of modules, and rely on their folder as the working directory.
So the folder, the modules and the variables of a function apply only while its code runs.
"""

from __future__ import annotations

import asyncio
import importlib
import itertools
import json
import logging
import os
import sys
import time
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

from nuclio_sdk.json_encoder import Encoder

from fnbuild.function.reader import LoadedFunction
from fnbuild.runtime.container import MODELS_PATH
from fnbuild.runtime.storage.uris import URI_VARIABLE, model_path
from fnbuild.runtime.worker.coroutines import CoroutineRunner
from fnbuild.runtime.worker.events import make_event_class
from fnbuild.runtime.worker.loader import HandlerLoader
from fnbuild.runtime.worker.logger import make_logger
from fnbuild.runtime.worker.process_setup import function_variables
from fnbuild.runtime.worker.responses import ReplyConverter, WorkerReply, match_responses

_SDK: Any = importlib.import_module("nuclio_sdk")
_REQUEST_ERRORS = range(400, 500)

Event = make_event_class(_SDK)


class LoadedHandler:
    """The handler of a function, after `init_context`.

    `variables` replace those of function.yaml. Exceptions of the function's code are not caught,
    but for those that describe an invalid request.
    """

    def __init__(self, loaded: LoadedFunction, variables: Mapping[str, str]) -> None:
        spec, metadata = loaded.function.spec, loaded.function.metadata
        self._folder = loaded.folder.resolve()
        described = {"name": metadata.name, "description": spec.description}
        declared = {item.name: item.value for item in spec.env if item.value_from is None}
        self._variables = function_variables(described, spec.handler) | declared | dict(variables)
        if self._variables.get(URI_VARIABLE):
            # Handlers get the path of the model. Nothing is downloaded for a test.
            uri = self._variables[URI_VARIABLE]
            self._variables[URI_VARIABLE] = model_path(uri, MODELS_PATH)
        self._modules: dict[str, ModuleType] = {}
        self._ids = itertools.count(1)
        loop = asyncio.new_event_loop()
        weakref.finalize(self, loop.close)
        self._coroutines = CoroutineRunner(loop)
        self._converter = ReplyConverter(_SDK.Response, Encoder)
        self._trigger = _SDK.TriggerInfo("http", "http")
        trigger = loaded.function.http_trigger()
        batch = trigger[1].batch if trigger else None
        self.takes_batches = batch is not None and batch.is_enabled
        with self._environment():
            loader = HandlerLoader(spec.handler, str(self._folder), metadata.name)
            self._handler = loader.load()
            log = logging.StreamHandler()
            log.setLevel(logging.WARNING)
            platform = _SDK.Platform("local")
            self.context = _SDK.Context(make_logger(_SDK, log), platform, "0")
            if loader.init_context is not None:
                self._coroutines.resolve(loader.init_context(self.context))

    def event(self, body: bytes, *, content_type: str, path: str, method: str) -> Any:
        """Return the event of a request."""
        meta = {
            "i": str(next(self._ids)), "ts": time.time(), "ct": content_type, "m": method,
            "p": path, "u": "", "h": [("content-type", content_type)], "q": "",
        }  # fmt: skip
        return Event(meta, body, self._trigger)

    def answer(self, event: Any) -> WorkerReply:
        """Return the reply to an event."""
        if self.takes_batches:
            return self.answer_batch([event])[0]
        with self._environment():
            return self._reply(lambda: self._handler(self.context, event))

    def answer_batch(self, events: list[Any]) -> list[WorkerReply]:
        """Return the reply to each event of a batch, with which the handler is called once."""
        with self._environment():
            output = self._coroutines.resolve(self._handler(self.context, events))
            responses = match_responses([event.id for event in events], output)
            return [self._reply(lambda item=item: item) for item in responses]

    def _reply(self, call: Any) -> WorkerReply:
        try:
            output = self._coroutines.resolve(call())
            if isinstance(output, BaseException):
                raise output
        except Exception as error:
            status = getattr(error, "reply_status", None)
            if not isinstance(status, int) or status not in _REQUEST_ERRORS:
                raise
            return WorkerReply(status, [], json.dumps({"error": str(error)}).encode())
        return self._converter.convert(output)

    @contextmanager
    def _environment(self) -> Iterator[None]:
        """Run code with the function's folder, modules and variables."""
        hidden = {name: sys.modules.pop(name) for name in self._names() if name in sys.modules}
        sys.modules.update(self._modules)
        path, folder = list(sys.path), Path.cwd()
        sys.path.insert(0, str(self._folder))
        os.chdir(self._folder)
        try:
            with mock.patch.dict(os.environ, self._variables):
                yield
        finally:
            os.chdir(folder)
            sys.path[:] = path
            self._modules = {
                name: module for name, module in sys.modules.items() if self._is_own(module)
            }
            for name in self._modules:
                del sys.modules[name]
            sys.modules.update(hidden)

    def _names(self) -> set[str]:
        """Return the names of modules that the function's folder may have."""
        tops = {path.stem for path in self._folder.iterdir() if path.suffix == ".py"}
        tops |= {path.name for path in self._folder.iterdir() if path.is_dir()}
        # A copy of fnbuild.vision for Nuclio has no effect in fnbuild's workers, either.
        tops.discard("fnbuild")
        own = {name for name in sys.modules if name.partition(".")[0] in tops}
        return {name for name in own if not _is_installed(sys.modules[name])}

    def _is_own(self, module: ModuleType) -> bool:
        file = getattr(module, "__file__", None)
        return bool(file) and self._folder in Path(str(file)).parents


def _is_installed(module: ModuleType) -> bool:
    """Return True for a module of Python or of an installed package."""
    file = getattr(module, "__file__", None)
    return not file or str(file).startswith((sys.prefix, sys.base_prefix))
