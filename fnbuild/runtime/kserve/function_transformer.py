"""The functions `preprocess` and `postprocess` of a module as a transformer."""

from types import ModuleType
from typing import Any, Dict, Optional

from .kserve_api import Model
from .model_handler import resolved


class FunctionTransformer(Model):
    """A transformer whose predictor is that of the arguments.

    `preprocess(context, payload)` returns the payload for the predictor, and
    `postprocess(context, payload)` the answer for that of the predictor; each may be async, or
    missing. Payloads are the objects of the JSON.
    """

    def __init__(self, name: str, module: ModuleType, context: Any) -> None:
        super().__init__(name)
        self._preprocess = getattr(module, "preprocess", None)
        self._postprocess = getattr(module, "postprocess", None)
        self._context = context

    async def preprocess(self, payload: Any, headers: Optional[Dict[str, str]] = None) -> Any:
        if self._preprocess is None:
            return payload
        return await resolved(self._preprocess(self._context, payload))

    async def postprocess(
        self,
        result: Any,
        headers: Optional[Dict[str, str]] = None,
        response_headers: Optional[Dict[str, str]] = None,
    ) -> Any:
        answer = result.to_rest()[0] if hasattr(result, "to_rest") else result
        if self._postprocess is None:
            return answer
        return await resolved(self._postprocess(self._context, answer))
