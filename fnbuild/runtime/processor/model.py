"""The download of the function's model, before its workers start."""

import asyncio
import threading
from typing import Callable, Dict, Mapping, Optional

from ..config import ProcessorConfig
from ..logs import Log
from ..storage.uris import URI_VARIABLE
from .worker_failure import Backoff, WorkerFailure


def model_environment(environment: Dict[str, str], config: ProcessorConfig) -> Dict[str, str]:
    """Return the variables with the place where this process sees a model in the code's folder.

    Only workers see the code at `mount`.
    """
    uri = environment.get(URI_VARIABLE, "")
    path = uri[len("file://") :] if uri.startswith("file://") else uri
    if config.mount and path.startswith(config.mount.rstrip("/") + "/"):
        environment[URI_VARIABLE] = "file://" + config.code + path[len(config.mount.rstrip("/")) :]
    return environment


class ModelDownload:
    """The download in a thread, with further attempts after a failure.

    `failure` is the reason of the last attempt; None before it has ended.
    """

    def __init__(
        self,
        environment: Mapping[str, str],
        folder: Optional[str],
        log: Log,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self.failure: Optional[WorkerFailure] = None
        self._environment = environment
        self._folder = folder
        self._log = log
        self._loop = loop
        self._stopped = threading.Event()

    def start(self, on_ready: Callable[[], None]) -> None:
        """Call `on_ready` once the model is on the disk; at once if the function names none."""
        if not self._folder or not self._environment.get(URI_VARIABLE):
            on_ready()
            return
        # A daemon thread, so that the end of the processor does not wait for a large download.
        threading.Thread(
            target=self._run, args=(self._folder, on_ready), name="model", daemon=True
        ).start()

    def stop(self) -> None:
        """Start no workers, and no further attempt."""
        self._stopped.set()

    def _run(self, folder: str, on_ready: Callable[[], None]) -> None:
        # Imported on use: TLS takes memory that most functions do not need.
        from ..storage.errors import StorageError
        from ..storage.fetch import fetch_model, model_request

        def report(text: str) -> None:
            self._call(lambda: self._log.info(text))

        backoff = Backoff()
        while not self._stopped.is_set():
            try:
                fetch_model(model_request(self._environment, folder), report)
            # Without workers, any error has to be the reason: a server may answer anything.
            except Exception as error:  # noqa: BLE001
                text = str(error)
                if not isinstance(error, StorageError):
                    text = "%s: %s" % (type(error).__name__, text)
                self._call(lambda text=text: self._fail(text))  # type: ignore[misc]
                self._stopped.wait(backoff.next())
            else:
                self._call(lambda: self._finish(on_ready))
                return

    def _call(self, callback: Callable[[], None]) -> None:
        """Run a callback on the loop, unless the processor has ended."""
        if not self._stopped.is_set():
            self._loop.call_soon_threadsafe(callback)

    def _fail(self, text: str) -> None:
        if self.failure is None or self.failure.text != text:
            self._log.error("The model cannot be loaded: " + text)
        self.failure = WorkerFailure.from_reason(text)

    def _finish(self, on_ready: Callable[[], None]) -> None:
        self.failure = None
        if not self._stopped.is_set():
            on_ready()
