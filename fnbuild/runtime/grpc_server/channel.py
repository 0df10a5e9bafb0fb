"""The channel between the processor and the gRPC server.

Both sockets are in the working directory of the server. The processor writes commands to the
server's standard input, and reads a line from its standard output.
"""

SERVER_SOCKET = "grpc.sock"
PROCESSOR_SOCKET = "processor.sock"

READY = "ready"
"""The line of a server that accepts connections."""

STOP = b"stop"
"""The command to end after the calls in flight; a number of seconds follows it."""

MISSING_STATUS = 3
"""The exit status of a server whose packages cannot be imported; standard error says why."""
