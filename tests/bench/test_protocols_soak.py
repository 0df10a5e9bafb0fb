"""A short run of the soak of the inference protocols."""

from __future__ import annotations

import pytest

from bench.faults import FaultPlan, run
from bench.protocols_soak import MALFORMED, ProtocolLoad

pytestmark = pytest.mark.system


def test_only_requests_of_killed_workers_fail_and_malformed_ones_get_their_status() -> None:
    plan = FaultPlan(requests=600, kills=4, redeploys=1, workers=2, clients=3)
    outcome = run(plan, load_class=ProtocolLoad)
    assert outcome.judge(steady=False) == []
    assert (outcome.kills, outcome.redeploys) == (4, 1)


def test_every_protocol_has_malformed_requests() -> None:
    for requests in MALFORMED.values():
        assert len(requests) >= 10
        assert not {request.status for request in requests} & {200, 500, "OK", "INTERNAL"}
