"""The channel between the processor and the gRPC server.

Both sockets are in the working directory of the server. The processor reads a line from its
standard output. To end the server, it writes a line to its standard input: the number of seconds
that calls in flight get.
"""

SERVER_SOCKET = "grpc.sock"
PROCESSOR_SOCKET = "processor.sock"

READY = "ready"
"""The line of a server that accepts connections."""

MISSING_STATUS = 3
"""The exit status of a server whose packages cannot be imported; standard error says why."""
