"""The model of bench/function/batched.py, served by bentoml in adaptive batches of up to 8."""

from typing import Any

import batched
import bentoml


@bentoml.service(workers=1)
class Bench:
    def __init__(self) -> None:
        batched.init_context()

    @bentoml.api(batchable=True, max_batch_size=8, max_latency_ms=60_000)
    def predict(self, values: list[dict[str, Any]]) -> list[dict[str, Any]]:
        return batched.predict(values)
