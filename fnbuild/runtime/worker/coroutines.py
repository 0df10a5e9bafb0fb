"""Run the coroutines of async handlers. asyncio is imported only when there is one."""

import socket
import types
import warnings
from typing import Any, Callable, Optional, Tuple

_GENERATORS = (types.GeneratorType, types.AsyncGeneratorType)


class CoroutineRunner:
    """The event loop for awaitables: `loop`, or one that is created by the first of them."""

    def __init__(self, loop: Any = None) -> None:
        self._loop = loop

    def resolve(self, value: Any) -> Any:
        """Return the value, or its result if it is awaitable."""
        if not hasattr(type(value), "__await__"):
            return value
        return self._get_loop().run_until_complete(_awaited(value))

    def resolve_or_cancel(self, value: Any, sock: socket.socket, stop: Callable[[], bool]) -> Any:
        """Await the value; cancel it once `stop`, called when `sock` is readable, returns True."""
        loop = self._get_loop()
        task = loop.create_task(_awaited(value))

        def check() -> None:
            if stop():
                loop.remove_reader(sock.fileno())
                task.cancel()

        loop.add_reader(sock.fileno(), check)
        try:
            return loop.run_until_complete(task)
        finally:
            loop.remove_reader(sock.fileno())

    def wait(self, sock: socket.socket) -> None:
        """Run the handler's background tasks until `sock` is readable."""
        loop = self._loop
        if loop is None or loop.is_closed():
            return
        readable = loop.create_future()
        loop.add_reader(sock.fileno(), lambda: readable.done() or readable.set_result(None))
        try:
            loop.run_until_complete(readable)
        finally:
            loop.remove_reader(sock.fileno())

    def _get_loop(self) -> Any:
        if self._loop is None or self._loop.is_closed():
            import asyncio

            try:
                # The handler may already use the current loop.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    self._loop = asyncio.get_event_loop()
            except RuntimeError:
                self._loop = None
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self._loop)
        return self._loop


class GeneratorItems:
    """An iterator over a generator, async or not.

    `watch` is a socket and a function, as for `CoroutineRunner.resolve_or_cancel`: an async
    generator that waits is cancelled if the function returns True.
    """

    def __init__(self, coroutines: CoroutineRunner, generator: Any) -> None:
        self.watch: Optional[Tuple[socket.socket, Callable[[], bool]]] = None
        self._coroutines = coroutines
        self._generator = generator
        self._async = isinstance(generator, types.AsyncGeneratorType)

    def __iter__(self) -> "GeneratorItems":
        return self

    def __next__(self) -> Any:
        if not self._async:
            return next(self._generator)
        following = self._generator.__anext__()
        try:
            if self.watch is None:
                return self._coroutines.resolve(following)
            return self._coroutines.resolve_or_cancel(following, *self.watch)
        except StopAsyncIteration:
            raise StopIteration from None

    def close(self) -> None:
        """Close the generator, which raises GeneratorExit in it, and propagate its exceptions."""
        if self._async:
            self._coroutines.resolve(self._generator.aclose())
        else:
            self._generator.close()


def is_generator(value: Any) -> bool:
    """Return True for the generators of a `def` or `async def` with `yield`."""
    return isinstance(value, _GENERATORS)


async def _awaited(value: Any) -> Any:
    return await value
