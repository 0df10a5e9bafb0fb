"""The function served by kserve's model server, which parses requests itself."""

import json
import os

import calling
import kserve
import numpy
from grpc import aio
from kserve.protocol.rest.server import RESTServer

SERVES_GRPC = "grpc" in os.environ["BENCH_PROTOCOLS"]
WORKERS = int(os.environ["BENCH_WORKERS"])


class Bench(kserve.Model):
    def __init__(self):
        super().__init__("bench")
        self.ready = True

    def __setstate__(self, state):
        # Each of its workers gets a copy of the model by pickle; that is where it is loaded.
        self.__dict__.update(state)
        calling.prepare()

    def predict(self, payload, headers=None, response_headers=None):  # noqa: ARG002
        if not isinstance(payload, dict):
            return self.infer(payload)
        if "instances" not in payload:
            return calling.call(payload)
        instances = payload["instances"]
        replies = [calling.call({"image": item["image"]["b64"]}) for item in instances]
        return {"predictions": replies}

    def infer(self, request):
        (tensor,) = request.inputs
        # The text itself in V2 over HTTP, an array of bytes over gRPC.
        rows = tensor.data or tensor.as_numpy()
        if tensor.datatype == "FP32":
            rows = tensor.as_numpy()
        texts = [json.dumps(calling.call({tensor.name: row})) for row in rows]
        output = kserve.InferOutput("predictions", [len(texts)], "BYTES")
        output.set_data_from_numpy(
            numpy.array(texts, dtype=object), binary_data=request.use_binary_outputs
        )
        return kserve.InferResponse(request.id, self.name, [output])


def stay_on_loopback():
    """Kserve listens on every interface and has no setting for it."""
    begin = RESTServer.__init__

    def begin_on_loopback(self, *arguments, **settings):
        begin(self, *arguments, **settings)
        self.config.host = "127.0.0.1"

    RESTServer.__init__ = begin_on_loopback

    server = aio._server.Server
    add_port = server.add_insecure_port
    server.add_insecure_port = lambda self, address: add_port(
        self, address.replace("[::]", "127.0.0.1")
    )


if __name__ == "__main__":
    stay_on_loopback()
    # Its gRPC server is in this process, however many workers there are.
    if WORKERS == 1 or SERVES_GRPC:
        calling.prepare()
    kserve.ModelServer(
        http_port=int(os.environ["BENCH_PORT"]),
        grpc_port=int(os.environ["BENCH_GRPC_PORT"]),
        workers=WORKERS,
        enable_grpc=SERVES_GRPC,
    ).start([Bench()])
