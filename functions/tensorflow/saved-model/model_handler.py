import os

import numpy as np
import tensorflow as tf

SIGNATURE = "serving_default"


class InvalidRequestError(ValueError):
    """The request does not fit the model; the answer has status 400."""

    reply_status = 400


class ModelHandler:
    """The SavedModel in the folder with the highest number."""

    def __init__(self, models: str):
        self.folder = newest_version(models)
        # The signature refers to the variables of the model.
        self._model = tf.saved_model.load(self.folder)
        self._signature = self._model.signatures[SIGNATURE]
        self._inputs = self._signature.structured_input_signature[1]

    def predict(self, request: dict) -> dict:
        """Return the predictions for the instances, or the outputs for inputs by column."""
        if "instances" in request:
            rows = request["instances"]
            if not isinstance(rows, list) or not rows:
                raise InvalidRequestError("instances is not a list of instances")
            return {"predictions": self._rows(self._run(self._columns(rows)))}
        if "inputs" in request:
            columns = request["inputs"]
            named = isinstance(columns, dict) and set(columns) == set(self._inputs)
            outputs = self._run(columns if named else {self._only_input(): columns})
            return {"outputs": _only_or_all({k: v.tolist() for k, v in outputs.items()})}
        raise InvalidRequestError("the request has neither instances nor inputs")

    def _columns(self, rows: list) -> dict:
        """Return the values of each input: rows name them, or there is one."""
        if not all(isinstance(row, dict) and set(row) == set(self._inputs) for row in rows):
            return {self._only_input(): rows}
        return {name: [row[name] for row in rows] for name in self._inputs}

    def _only_input(self) -> str:
        if len(self._inputs) != 1:
            raise InvalidRequestError("an instance has the inputs " + ", ".join(self._inputs))
        return next(iter(self._inputs))

    def _run(self, columns: dict) -> dict:
        tensors = {}
        for name, spec in self._inputs.items():
            try:
                tensors[name] = tf.constant(columns[name], dtype=spec.dtype)
            except (TypeError, ValueError) as problem:
                raise InvalidRequestError(f"{name} is not {spec.dtype.name}: {problem}") from None
            if not spec.shape.is_compatible_with(tensors[name].shape):
                shape = tensors[name].shape
                raise InvalidRequestError(f"{name} has the shape {shape}, not {spec.shape}")
        return {name: value.numpy() for name, value in self._signature(**tensors).items()}

    def _rows(self, outputs: dict) -> list:
        """Return the outputs of each instance."""
        columns = {name: np.asarray(value).tolist() for name, value in outputs.items()}
        if len(columns) == 1:
            return next(iter(columns.values()))
        return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def newest_version(models: str) -> str:
    """Return the folder with the highest number, as TensorFlow Serving does."""
    versions = [name for name in os.listdir(models) if name.isdigit()]
    if not versions:
        raise FileNotFoundError(
            f"{models} has no folder whose name is a number, as in {models}/1/saved_model.pb"
        )
    return os.path.join(models, max(versions, key=int))


def _only_or_all(values: dict) -> object:
    return next(iter(values.values())) if len(values) == 1 else values
