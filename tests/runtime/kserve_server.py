"""KServe's own server with the model `sums`: python kserve_server.py PORT GRPC_PORT."""

from __future__ import annotations

import sys
from typing import Any

import kserve
from kserve.utils.utils import generate_uuid


class Sums(kserve.Model):
    """The sum of each row."""

    def load(self) -> bool:
        self.ready = True
        return True

    def predict(self, payload: Any, headers: Any = None) -> Any:
        if isinstance(payload, dict):
            return {"predictions": [sum(row) for row in payload["instances"]]}
        values = payload.inputs[0].as_numpy().sum(axis=1)
        output = kserve.InferOutput(name="y", shape=list(values.shape), datatype="FP32")
        output.set_data_from_numpy(values, binary_data=payload.use_binary_outputs)
        identifier = payload.id or generate_uuid()
        return kserve.InferResponse(identifier, model_name=self.name, infer_outputs=[output])


if __name__ == "__main__":
    model = Sums("sums")
    model.load()
    http_port, grpc_port = map(int, sys.argv[1:])
    kserve.ModelServer(http_port=http_port, grpc_port=grpc_port).start([model])
