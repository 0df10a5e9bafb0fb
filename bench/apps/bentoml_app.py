"""The function served by bentoml, which parses the JSON itself."""

import os
from typing import Any

import bentoml
import calling


@bentoml.service(workers=int(os.environ["BENCH_WORKERS"]))
class Bench:
    def __init__(self) -> None:
        calling.prepare()

    @bentoml.api(route="/")
    def serve(self, value: dict[str, Any], /) -> dict[str, Any]:
        return calling.call(value)
