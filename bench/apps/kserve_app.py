"""The function served by kserve's model server (V1 protocol), which parses the JSON itself."""

import os

import calling
import kserve
from kserve.protocol.rest.server import RESTServer


class Bench(kserve.Model):
    def __init__(self):
        super().__init__("bench")
        self.ready = True

    def __setstate__(self, state):
        # Each of its workers gets a copy of the model by pickle; that is where it is loaded.
        self.__dict__.update(state)
        calling.prepare()

    def predict(self, payload, headers=None, response_headers=None):  # noqa: ARG002
        return calling.call(payload)


def stay_on_loopback():
    """Kserve listens on every interface and has no setting for it."""
    begin = RESTServer.__init__

    def begin_on_loopback(self, *arguments, **settings):
        begin(self, *arguments, **settings)
        self.config.host = "127.0.0.1"

    RESTServer.__init__ = begin_on_loopback


if __name__ == "__main__":
    stay_on_loopback()
    kserve.ModelServer(
        http_port=int(os.environ["BENCH_PORT"]),
        workers=int(os.environ["BENCH_WORKERS"]),
        enable_grpc=False,
    ).start([Bench()])
