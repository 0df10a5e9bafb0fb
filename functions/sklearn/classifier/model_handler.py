"""A scikit-learn model: rows of features in, labels or probabilities out."""

import os

import numpy as np
from model_file import ModelError, load_model

SUFFIXES = (".joblib", ".pkl", ".pickle")


class InvalidRequestError(ValueError):
    """The request does not fit the model; the answer has status 400."""

    reply_status = 400


class ModelHandler:
    def __init__(self, storage, probabilities):
        self.path = find_model(storage)
        model = load_model(self.path)
        method = "predict_proba" if probabilities else "predict"
        if not hasattr(model, method):
            hint = ", which PREDICT_PROBA needs" if probabilities else ""
            raise ModelError(f"{type(model).__name__} in {self.path} has no {method}{hint}")
        self._predict = getattr(model, method)

    def predict(self, rows):
        """Return the label of each row, or the probabilities of its classes."""
        try:
            return np.asarray(self._predict(rows))
        except (TypeError, ValueError) as problem:
            raise InvalidRequestError(f"the rows do not fit the model: {problem}") from None


def find_model(storage):
    """Return the path of the only model file; `storage` is that file or its folder."""
    if os.path.isfile(storage):
        return storage
    names = sorted(os.listdir(storage)) if os.path.isdir(storage) else []
    models = [name for name in names if name.endswith(SUFFIXES)]
    if len(models) != 1:
        content = ", ".join(models) or "no model"
        wanted = " or ".join("*" + suffix for suffix in SUFFIXES)
        raise ModelError(f"{storage} has {content} instead of one file {wanted}")
    return os.path.join(storage, models[0])
