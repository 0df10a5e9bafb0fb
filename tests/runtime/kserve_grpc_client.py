"""KServe's own gRPC client: python kserve_grpc_client.py TARGET prints answers of `sums`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
import kserve
import numpy
from kserve.inference_client import InferenceGRPCClient

ROWS = [[1.5, 2.0, 3.25], [4.0, 5.0, -6.5]]


async def infer(client: InferenceGRPCClient, binary: bool, model: str = "sums") -> dict[str, Any]:
    tensor = kserve.InferInput(name="x", shape=[2, 3], datatype="FP32")
    tensor.set_data_from_numpy(numpy.array(ROWS, "f4"), binary_data=binary)
    response = await client.infer(kserve.InferRequest(model, [tensor], request_id="r1"))
    outputs = [
        {"name": o.name, "type": o.datatype, "shape": list(o.shape), "data": o.as_numpy().tolist()}
        for o in response.outputs
    ]
    return {"id": response.id, "model": response.model_name, "outputs": outputs}


async def main(target: str) -> dict[str, Any]:
    """Return the answers to the methods of the client."""
    client = InferenceGRPCClient(target)
    answers: dict[str, Any] = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model ready": await client.is_model_ready("sums"),
        "typed": await infer(client, binary=False),
        "raw": await infer(client, binary=True),
    }
    try:
        await infer(client, binary=True, model="nope")
    except grpc.RpcError as error:
        answers["unknown model"] = error.code().name
    await client.close()
    return answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
