"""KServe's own clients: answers of the model `sums` at several servers.

`python kserve_client.py URL TARGET …` prints a list with an object for each pair of addresses, of
HTTP and gRPC.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import grpc
import kserve
import numpy
from kserve.inference_client import InferenceGRPCClient, InferenceRESTClient, RESTConfig

ROWS = [[1.5, 2.0, 3.25], [4.0, 5.0, -6.5]]


def infer_request(binary: bool, model: str = "sums") -> kserve.InferRequest:
    """Return a request with one tensor, in binary form or as JSON."""
    tensor = kserve.InferInput(name="x", shape=[2, 3], datatype="FP32")
    tensor.set_data_from_numpy(numpy.array(ROWS, "f4"), binary_data=binary)
    return kserve.InferRequest(model, [tensor], request_id="r1")


def response_values(response: kserve.InferResponse) -> dict[str, Any]:
    """Return the values of a response as JSON."""
    outputs = [
        {"name": o.name, "type": o.datatype, "shape": list(o.shape), "data": o.as_numpy().tolist()}
        for o in response.outputs
    ]
    return {"id": response.id, "model": response.model_name, "outputs": outputs}


async def http_answers(url: str) -> dict[str, Any]:
    """Return the answers to all methods of the client for HTTP."""
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))

    async def infer(binary: bool) -> dict[str, Any]:
        request = infer_request(binary)
        request.parameters = {"binary_data_output": binary}
        return response_values(await v2.infer(url, request, model_name="sums"))

    return {
        "v1": await v1.infer(url, {"instances": ROWS}, model_name="sums"),
        "v1 ready": await v1.is_model_ready(url, "sums"),
        "v2": await infer(binary=False),
        "v2 binary": await infer(binary=True),
        "live": await v2.is_server_live(url),
        "ready": await v2.is_server_ready(url),
        "v2 ready": await v2.is_model_ready(url, "sums"),
    }


async def grpc_answers(target: str) -> dict[str, Any]:
    """Return the answers to the methods of the client for gRPC."""
    client = InferenceGRPCClient(target)
    answers: dict[str, Any] = {
        "live": await client.is_server_live(),
        "ready": await client.is_server_ready(),
        "model ready": await client.is_model_ready("sums"),
        "typed": response_values(await client.infer(infer_request(binary=False))),
        "raw": response_values(await client.infer(infer_request(binary=True))),
    }
    try:
        await client.infer(infer_request(binary=True, model="nope"))
    except grpc.RpcError as error:
        answers["unknown model"] = error.code().name
    await client.close()
    return answers


async def main(addresses: list[str]) -> list[dict[str, Any]]:
    """Return the answers of each server."""
    return [
        {"http": await http_answers(url), "grpc": await grpc_answers(target)}
        for url, target in zip(addresses[::2], addresses[1::2], strict=True)
    ]


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1:]))))
