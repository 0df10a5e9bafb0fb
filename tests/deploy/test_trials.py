"""Functions as they run in a trial."""

from __future__ import annotations

from fnbuild.deploy.trials import trial_function
from fnbuild.function.reader import function_from_dict
from fnbuild.function.record_settings import record_settings


def test_a_trial_answers_requests_and_does_nothing_else() -> None:
    function = function_from_dict(
        {
            "metadata": {
                "name": "f",
                "annotations": {"fnbuild.io/record": "1Gi", "type": "detector"},
            },
            "spec": {
                "disable": True,
                "triggers": {
                    "web": {"kind": "http", "attributes": {"authenticationMode": "api"}},
                    "clock": {"kind": "cron", "attributes": {"interval": "1s"}},
                },
            },
        },
        "x",
    )
    trial = trial_function(function)
    assert record_settings(trial) is None
    assert trial.metadata.annotations == {"type": "detector"}
    assert [*trial.spec.triggers] == ["web"]
    assert trial.spec.triggers["web"].attributes == {"authenticationMode": "api"}
    assert not trial.spec.disable
