"""The supervisor: one daemon per data directory, which owns the functions' listening sockets.

    python -m fnbuild.platforms.process.supervisor --data-dir DIRECTORY [--foreground]

Without --foreground the command returns once the supervisor answers. SIGTERM ends the supervisor
and leaves the processors running; the next supervisor adopts them. `fnbuild down` ends them too.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import os
import resource
import signal
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import fnbuild
from fnbuild.datadir import data_dir
from fnbuild.errors import FnbuildError, UsageError
from fnbuild.platforms import FunctionKey, Progress
from fnbuild.platforms.process import daemon, layout, supervisor_client
from fnbuild.platforms.process.isolation import isolated_users
from fnbuild.platforms.process.layout import (
    launched_processors,
    supervisor_lock,
    supervisor_log,
    supervisor_socket,
)
from fnbuild.platforms.process.processor_client import borrow_listeners
from fnbuild.platforms.process.processor_handle import ProcessorHandle, attach_processor
from fnbuild.platforms.process.runtime_upgrade import replace_outdated
from fnbuild.platforms.process.supervised_function import SupervisedFunction
from fnbuild.platforms.process.supervisor_protocol import SupervisorServer
from fnbuild.platforms.stored_platform import should_run
from fnbuild.store import FunctionRow, Store

_GRACE_SECONDS = 15.0

log = logging.getLogger(__name__)


_TICK_SECONDS = 1.0
_MAX_OPEN_FILES = 65536


async def _attach_processors() -> dict[FunctionKey, list[ProcessorHandle]]:
    """Return handles of all running processors by function; remove the files of ended ones."""
    handles: dict[FunctionKey, list[ProcessorHandle]] = defaultdict(list)
    for key, revision in list(launched_processors()):
        processor = await attach_processor(key, revision)
        if processor is not None:
            handles[key].append(processor)
    return handles


async def _adopt_processors(
    function: SupervisedFunction, row: FunctionRow | None, processors: list[ProcessorHandle]
) -> None:
    """Let the function adopt the processor of its active revision; end the others.

    A processor of an older revision drains. One of a newer revision, or of a function that is not
    recorded, is the remains of an interrupted change.
    """
    active = row.revision if row is not None and row.desired == "running" else 0
    for processor in processors:
        if processor.revision == active and not processor.draining:
            await _adopt_active(function, processor)
        elif processor.revision < active:
            function.adopt_draining(processor)
        else:
            log.info("%s is not recorded as active", processor)
            await processor.stop(_GRACE_SECONDS)


async def _adopt_active(function: SupervisedFunction, processor: ProcessorHandle) -> None:
    listeners = await asyncio.to_thread(borrow_listeners, processor.control)
    if listeners is None:
        log.warning("%s does not hand over its sockets and is killed", processor)
        await processor.kill()
        return
    function.adopt(processor, listeners)


class DataDirIdentity:
    """Identifies the data directory, to notice that it was removed or replaced."""

    def __init__(self, path: Path):
        self._path = path
        self._identity = path.stat()

    def is_gone(self) -> bool:
        try:
            return not os.path.samestat(self._path.stat(), self._identity)
        except FileNotFoundError:
            return True
        except OSError:
            return False


class Supervisor:
    def __init__(self, store: Store):
        self._store = store
        self._functions: dict[FunctionKey, SupervisedFunction] = {}
        self._server = SupervisorServer(supervisor_socket(), self._handle)
        self._stopped = asyncio.Event()
        self._data_dir = DataDirIdentity(data_dir())
        self._upgrade: asyncio.Task[None] | None = None

    async def run(self) -> None:
        """Serve requests until stopped. Processors keep running unless `down` has stopped them."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped.set)
        await self._adopt()
        self._restore()
        await self._server.start()
        log.info("supervisor %s runs (pid %d)", fnbuild.__version__, os.getpid())
        daemon.report_ready()
        watch = asyncio.create_task(self._watch())
        self._upgrade = asyncio.create_task(
            replace_outdated(list(self._functions.values()), self._store)
        )
        await self._stopped.wait()
        watch.cancel()
        self._upgrade.cancel()
        await asyncio.wait({self._upgrade})  # it ends a processor that is not ready yet
        await self._server.close()
        for function in self._functions.values():
            function.release()
        log.info("supervisor ends")

    def _function(self, key: FunctionKey) -> SupervisedFunction:
        return self._functions.setdefault(key, SupervisedFunction(key, self._store))

    # Functions

    async def _adopt(self) -> None:
        for key, processors in (await _attach_processors()).items():
            row = self._store.function(*key)
            await _adopt_processors(self._function(key), row, processors)

    def _restore(self) -> None:
        """Start the functions that ran when the last supervisor or the machine ended."""
        for row in self._store.functions():
            try:
                is_due = should_run(row)
            except FnbuildError as error:  # an invalid record must not affect the others
                log.warning("%s/%s does not start: %s", row.namespace, row.name, error.message)
                continue
            if is_due:
                self._resume(row)

    def _resume(self, row: FunctionRow) -> str | None:
        """Start the function if it should run and does not; return the reason of a failure."""
        if row.desired != "running" or row.revision == 0:
            return None
        key = FunctionKey(row.namespace, row.name)
        try:
            self._function(key).resume()
        except FnbuildError as error:
            log.warning("%s does not start: %s", key, error.message)
            return error.message
        return None

    async def _watch(self) -> None:
        while not self._data_dir.is_gone():
            await asyncio.gather(
                *(self._tick(function) for function in list(self._functions.values()))
            )
            await asyncio.sleep(_TICK_SECONDS)
        # The functions of a removed data directory cannot be managed any more.
        log.warning("the data directory is gone")
        await asyncio.gather(*(function.stop() for function in self._functions.values()))
        self._stopped.set()

    async def _tick(self, function: SupervisedFunction) -> None:
        try:
            await function.tick()
        except Exception:  # an error in one function must not affect the others
            log.exception("the check of %s failed", function.key)
        if function.idle:
            self._functions.pop(function.key, None)

    # Requests

    async def _handle(
        self, verb: str, arguments: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        result: dict[str, Any] = {}
        match verb:
            case "hello":
                result = {"version": fnbuild.__version__, "pid": os.getpid()}
            case "switch":
                result = await self._switch(arguments, progress)
            case "stop":
                await self._stop(_requested_key(arguments))
            case "unwritten":
                result = self._unwritten(_requested_key(arguments))
            case "up":
                result = await self._start(self._desired(), progress)
            case "restore":
                result = await self._restore_functions(arguments, progress)
            case "down":
                result = await self._down(progress)
            case "handover":
                asyncio.get_running_loop().call_later(0.05, self._stopped.set)
            case _:
                raise UsageError(f'the supervisor has no verb "{verb}"')
        return result

    async def _switch(self, arguments: dict[str, Any], progress: Progress) -> dict[str, Any]:
        key = _requested_key(arguments)
        layout.check_no_down_since(int(arguments["began"]), key.name)
        function = self._function(key)
        number, overlap = int(arguments["revision"]), bool(arguments.get("overlap"))
        await function.switch(number, progress, overlap=overlap)
        assert function.listeners is not None
        return {"port": function.listeners.port}

    async def _stop(self, key: FunctionKey) -> None:
        function = self._functions.get(key)
        if function is not None:
            await function.stop()
            self._functions.pop(key, None)

    def _unwritten(self, key: FunctionKey) -> dict[str, Any]:
        """Return the state that could not be written to the store, if there is one."""
        function = self._functions.get(key)
        unwritten = function.unwritten if function is not None else None
        return dict(zip(("state", "message"), unwritten, strict=True)) if unwritten else {}

    def _desired(self) -> list[FunctionRow]:
        return [row for row in self._store.functions() if row.desired == "running" and row.revision]

    async def _restore_functions(
        self, arguments: dict[str, Any], progress: Progress
    ) -> dict[str, Any]:
        """Start one function or all, as `up` does, except those that a user has stopped."""
        requested = _requested_key(arguments) if arguments else None
        rows = [row for row in self._store.functions() if should_run(row)]
        selected = [row for row in rows if requested in (None, (row.namespace, row.name))]
        return await self._start(selected, progress)

    async def _start(self, rows: list[FunctionRow], progress: Progress) -> dict[str, Any]:
        results = await asyncio.gather(*(self._start_function(row, progress) for row in rows))
        return {
            "functions": len(rows),
            "ready": [row.name for row, ready in zip(rows, results, strict=True) if ready],
            "failed": [row.name for row, ready in zip(rows, results, strict=True) if not ready],
        }

    async def _start_function(self, row: FunctionRow, progress: Progress) -> bool:
        """Start the function unless it runs; return True if it became ready."""
        failure = self._resume(row)
        if failure is not None:
            progress(f"{row.name}: {failure}")
            return False
        status = await self._function(FunctionKey(row.namespace, row.name)).wait_until_settled()
        state = status.state if status else "starting"
        reason = f": {status.reason}" if status and status.reason and not status.available else ""
        progress(f"{row.name}: {state} on http://127.0.0.1:{row.http_port}{reason}")
        return status is not None and status.available

    async def _down(self, progress: Progress) -> dict[str, Any]:
        if self._upgrade is not None:
            self._upgrade.cancel()
        await self._server.close(keep=asyncio.current_task())
        running = [function for function in self._functions.values() if not function.idle]
        for function in running:
            progress(f"stopping {function.key.name}")
        ending = set(running)
        # Including those that have ended by themselves: only `up` may start them now.
        with contextlib.suppress(FnbuildError):
            ending |= {
                self._function(FunctionKey(row.namespace, row.name)) for row in self._desired()
            }
        await asyncio.gather(*(function.stop() for function in ending))
        # The caller waits for the reply, so it is sent first.
        asyncio.get_running_loop().call_later(0.05, self._stopped.set)
        return {"functions": len(running)}


def _requested_key(arguments: dict[str, Any]) -> FunctionKey:
    return FunctionKey(str(arguments["namespace"]), str(arguments["name"]))


def main() -> int:
    parser = argparse.ArgumentParser(prog="fnbuild-supervisor", description=__doc__)
    parser.add_argument("--data-dir", type=Path, required=True)
    parser.add_argument("--foreground", action="store_true")
    arguments = parser.parse_args()
    os.environ["FNBUILD_DATA_DIR"] = str(arguments.data_dir.absolute())
    try:
        if not arguments.foreground and not daemon.detach(supervisor_log()):
            return 0
        with daemon.single_instance(
            supervisor_lock(), lambda: supervisor_client.running_supervisor() is not None
        ) as acquired:
            if acquired:
                _serve()
            daemon.report_ready()
    except FnbuildError as error:
        daemon.report_failure(error)
        return error.exit_status
    return 0


def _serve() -> None:
    # Processors inherit the limit; each open connection takes a descriptor, so 1024 are too few.
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard_limit, _MAX_OPEN_FILES), hard_limit))
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s")

    async def serve(store: Store) -> None:
        await Supervisor(store).run()

    isolated_users()
    with contextlib.closing(Store.open()) as store:
        asyncio.run(serve(store))


if __name__ == "__main__":
    sys.exit(main())
