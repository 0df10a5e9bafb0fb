"""The function served by litserve, which parses the JSON itself."""

import os

import calling
import litserve


class Bench(litserve.LitAPI):
    def setup(self, _device):
        calling.prepare()

    def decode_request(self, request):
        return request

    def predict(self, value):
        return calling.call(value)

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    server = litserve.LitServer(
        Bench(), accelerator="cpu", workers_per_device=int(os.environ["BENCH_WORKERS"])
    )
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False)
