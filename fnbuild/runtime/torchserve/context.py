"""The context of TorchServe's handlers, with its names (`ts.context`)."""

from typing import Any, Callable, Dict, List, Optional, Sequence, Tuple

from .metrics import Metrics

Headers = Dict[str, Any]


class Context:
    """The model of a worker, and the requests that its handler is called with.

    `send_intermediate` sends items of the replies before the handler returns.
    """

    def __init__(
        self,
        model_name: str,
        manifest: Dict[str, Any],
        system_properties: Dict[str, Any],
        model_yaml_config: Dict[str, Any],
        metrics: Metrics,
    ) -> None:
        self.model_name = model_name
        self.manifest = manifest
        self.system_properties = system_properties
        self.model_yaml_config = model_yaml_config
        self.metrics = metrics
        self.send_intermediate: Callable[[Sequence[Any]], None]
        self.begin([], [])

    def begin(self, identities: Sequence[str], headers: Sequence[Headers]) -> None:
        """Take the next requests: their ids and headers."""
        self.request_ids: Dict[int, str] = dict(enumerate(identities))
        self.metrics.request_ids = self.request_ids
        self._request_headers = list(headers)
        self._response_headers: List[Headers] = [{} for _ in headers]
        self._statuses: List[Tuple[int, Optional[str]]] = [(200, None) for _ in headers]

    def get_request_id(self, idx: int = 0) -> Optional[str]:
        return self.request_ids.get(idx)

    def get_request_header(self, idx: int, key: str) -> Any:
        return self._request_headers[idx].get(key)

    def get_all_request_header(self, idx: int) -> Headers:
        return self._request_headers[idx]

    def set_response_content_type(self, idx: int, value: str) -> None:
        self.set_response_header(idx, "content-type", value)

    def get_response_content_type(self, idx: int) -> Any:
        return self._response_headers[idx].get("content-type")

    def set_response_header(self, idx: int, key: str, value: Any) -> None:
        self._response_headers[idx][key] = value

    def get_response_headers(self, idx: int) -> Headers:
        return self._response_headers[idx]

    def set_response_status(self, code: int = 200, phrase: str = "", idx: int = 0) -> None:
        if self._statuses:
            self._statuses[idx] = (code, phrase)

    def set_all_response_status(self, code: int = 200, phrase: str = "") -> None:
        self._statuses = [(code, phrase) for _ in self._statuses]

    def get_response_status(self, idx: int) -> Tuple[int, Optional[str]]:
        return self._statuses[idx]
