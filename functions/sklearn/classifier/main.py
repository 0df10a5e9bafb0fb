"""Classifies rows of features: requests and answers of V1 and V2."""

import os
import sys

from model_file import ModelError
from model_handler import InvalidRequestError, ModelHandler

DATATYPES = {"b": "BOOL", "i": "INT64", "u": "UINT64", "f": "FP64"}


def init_context(context):
    storage = os.environ.get("STORAGE_URI", "/mnt/models")
    probabilities = os.environ.get("PREDICT_PROBA", "").lower() == "true"
    try:
        context.user_data.model = ModelHandler(storage, probabilities)
    except ModelError as error:
        # The message says it all: the error of the function has no traceback.
        sys.exit(str(error))
    context.logger.info("The model is loaded from " + context.user_data.model.path)


def handler(context, event):
    model, request = context.user_data.model, event.body
    if not isinstance(request, dict):
        raise InvalidRequestError("the request is not a JSON object")
    if event.path.startswith("/v2/"):
        return {"outputs": [output_tensor(model.predict(input_rows(request["inputs"])))]}
    for key in ("instances", "inputs"):
        if key in request:
            return {"predictions": model.predict(request[key]).tolist()}
    raise InvalidRequestError("the request has no instances")


def input_rows(tensors):
    if len(tensors) != 1:
        names = ", ".join(tensor["name"] for tensor in tensors)
        raise InvalidRequestError("one input has all features of a row, not " + names)
    return tensors[0]["data"]


def output_tensor(predictions):
    return {
        "name": "output-0",
        "datatype": DATATYPES.get(predictions.dtype.kind, "BYTES"),
        "shape": list(predictions.shape),
        "data": predictions if predictions.dtype.kind in DATATYPES else predictions.tolist(),
    }
