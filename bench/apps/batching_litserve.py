"""The model of bench/function/batched.py, served by litserve in batches.

python batching_litserve.py SIZE TIMEOUT
"""

import os
import sys

import batched
import litserve


class Bench(litserve.LitAPI):
    def setup(self, _device):
        batched.init_context()

    def decode_request(self, request):
        return request

    def batch(self, inputs):
        return inputs

    def predict(self, values):
        return batched.predict(values)

    def unbatch(self, output):
        return output

    def encode_response(self, output):
        return output


if __name__ == "__main__":
    api = Bench(max_batch_size=int(sys.argv[1]), batch_timeout=float(sys.argv[2]))
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1)
    server.run(host="127.0.0.1", port=int(os.environ["BENCH_PORT"]), generate_client_file=False)
