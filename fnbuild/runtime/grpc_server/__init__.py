"""The gRPC server: a child process of the processor, which alone imports grpcio and protobuf.

It turns each call into a request of the V2 protocol, which it sends to the processor over a private
unix socket, and the answer into the reply of the call.
"""
