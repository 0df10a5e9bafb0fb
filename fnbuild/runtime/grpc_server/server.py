"""The gRPC server in its process, from its start to its end."""

import asyncio
import os
import shutil
from typing import List

from grpc import aio
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection, reflection_pb2

from .channel import PROCESSOR_SOCKET, READY, SERVER_SOCKET
from .proto import POOL, SERVICE
from .service import HEALTH_SERVICE, HealthService, InferenceService
from .upstream import Upstream


class _Server:
    """The gRPC server, which ends when the processor says so or has ended."""

    def __init__(self, max_message: int) -> None:
        self._max_message = max_message
        self._stopping: "asyncio.Future[float]" = asyncio.get_event_loop().create_future()

    async def run(self) -> None:
        """Serve until the processor ends the server."""
        options = [
            ("grpc.max_receive_message_length", self._max_message),
            ("grpc.max_send_message_length", -1),
        ]
        server = aio.server(options=options)
        upstream = Upstream(PROCESSOR_SOCKET)
        services = (InferenceService(upstream).handler(), HealthService(upstream).handler())
        server.add_generic_rpc_handlers(services)
        names = (SERVICE, HEALTH_SERVICE, reflection.SERVICE_NAME)
        for file in (health_pb2.DESCRIPTOR, reflection_pb2.DESCRIPTOR):
            POOL.AddSerializedFile(file.serialized_pb)
        reflection.enable_server_reflection(names, server, POOL)
        server.add_insecure_port("unix:" + SERVER_SOCKET)
        await server.start()
        asyncio.get_event_loop().add_reader(0, self._read_input)
        os.write(1, READY.encode("ascii") + b"\n")
        await server.stop(await self._stopping)

    def _read_input(self) -> None:
        data = os.read(0, 4096)
        if not data:
            # The processor has ended without removing the folder of the sockets.
            shutil.rmtree(os.getcwd(), ignore_errors=True)
            os._exit(0)
        if not self._stopping.done():
            self._stopping.set_result(float(data.split()[0]))


def main(arguments: List[str]) -> int:
    """Serve; the argument is the largest message in bytes."""
    loop = asyncio.new_event_loop()
    asyncio.set_event_loop(loop)
    loop.run_until_complete(_Server(int(arguments[0])).run())
    return 0
