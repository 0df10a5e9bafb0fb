"""Runs what async handlers return. asyncio is imported only when there is something to run."""

import socket
import types
import warnings
from typing import Any, Iterator


class Coroutines:
    """The worker's event loop, once a coroutine has shown up."""

    def __init__(self) -> None:
        self._loop: Any = None

    def resolve(self, value: Any) -> Any:
        """The value itself, or what it gives when awaited."""
        if not hasattr(type(value), "__await__"):
            return value
        return self._get_loop().run_until_complete(_awaited(value))

    def iterate(self, generator: Any) -> Iterator[Any]:
        """The items of a generator, async or not."""
        if isinstance(generator, types.GeneratorType):
            for item in generator:
                yield item
            return
        while True:
            try:
                yield self.resolve(generator.__anext__())
            except StopAsyncIteration:
                return

    def wait(self, sock: socket.socket) -> None:
        """Let the handler's background tasks run until the next message is there."""
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
                # A handler may have asked for the loop already and built things on it.
                with warnings.catch_warnings():
                    warnings.simplefilter("ignore", DeprecationWarning)
                    self._loop = asyncio.get_event_loop()
            except RuntimeError:
                self._loop = None
            if self._loop is None or self._loop.is_closed():
                self._loop = asyncio.new_event_loop()
                asyncio.set_event_loop(self._loop)
        return self._loop


def is_generator(value: Any) -> bool:
    return isinstance(value, (types.GeneratorType, types.AsyncGeneratorType))


async def _awaited(value: Any) -> Any:
    return await value
