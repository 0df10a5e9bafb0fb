"""KServe's own client: python kserve_client.py URL prints the answers of the model `sums`."""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any

import kserve
import numpy
from kserve.inference_client import InferenceRESTClient, RESTConfig

ROWS = [[1.5, 2.0, 3.25], [4.0, 5.0, -6.5]]


async def infer(client: InferenceRESTClient, url: str, binary: bool) -> dict[str, Any]:
    tensor = kserve.InferInput(name="x", shape=[2, 3], datatype="FP32")
    tensor.set_data_from_numpy(numpy.array(ROWS, "f4"), binary_data=binary)
    parameters = {"binary_data_output": True} if binary else None
    request = kserve.InferRequest("sums", [tensor], request_id="r1", parameters=parameters)
    response = await client.infer(url, request, model_name="sums")
    outputs = [
        {"name": o.name, "type": o.datatype, "shape": o.shape, "data": o.as_numpy().tolist()}
        for o in response.outputs
    ]
    return {"id": response.id, "model": response.model_name, "outputs": outputs}


async def main(url: str) -> dict[str, Any]:
    """Return the answers to all methods of the client."""
    answers: dict[str, Any] = {}
    v1 = InferenceRESTClient(RESTConfig(protocol="v1"))
    answers["v1"] = await v1.infer(url, {"instances": ROWS}, model_name="sums")
    answers["v1 ready"] = await v1.is_model_ready(url, "sums")
    v2 = InferenceRESTClient(RESTConfig(protocol="v2"))
    answers["v2"] = await infer(v2, url, binary=False)
    answers["v2 binary"] = await infer(v2, url, binary=True)
    answers["live"] = await v2.is_server_live(url)
    answers["ready"] = await v2.is_server_ready(url)
    answers["v2 ready"] = await v2.is_model_ready(url, "sums")
    return answers


if __name__ == "__main__":
    print(json.dumps(asyncio.run(main(sys.argv[1]))))
