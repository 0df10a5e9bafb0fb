"""The table of batches: medians, ratios within a round, and the goal."""

from __future__ import annotations

import json

from bench import batching
from bench.batching import Figures
from bench.load import Sample


def sample(rate: float, p50: float) -> Sample:
    return Sample(int(rate), 1.0, p50, p50, {})


def test_ratios_are_those_of_the_same_round() -> None:
    figures = Figures(missing={"bentoml, adaptive": "its environment is not installed"})
    for none, adaptive in ((10, 40), (30, 90), (20, 100)):
        figures.samples["none", 32].append(sample(none, 1000.0 / none))
        figures.samples["adaptive", 32].append(sample(adaptive, 1000.0 / adaptive))
    assert figures.ratio("adaptive", 32) == 4.0
    text = batching.render(figures, [32], "python -m bench.batching --concurrency 32")
    assert "| fnbuild without batches | 20 (1.00) | 50.0 |" in text
    assert "| fnbuild, `adaptive` | 90 (4.00) | 11.1 |" in text
    assert "enable" not in text
    assert "Not measured: bentoml, adaptive: its environment is not installed" in text


def test_requests_have_the_form_of_the_server() -> None:
    own, bentoml = (batching.SERVERS[number] for number in (0, -1))
    assert json.loads(batching.workload_of(own).payloads[1].body) == {"number": 1}
    payload = batching.workload_of(bentoml).payloads[1]
    assert json.loads(payload.body) == {"values": [{"number": 1}]}
    assert payload.expected == [{"number": 2}]
