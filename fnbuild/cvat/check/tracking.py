"""The states of a tracker: they pass CVAT's signing, and any worker continues with them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from fnbuild.cvat.check.comparison import shapes_differ
from fnbuild.cvat.check.pictures import CheckPicture
from fnbuild.cvat.check.probe import Probe

MAX_STATE_SIZE = 4 << 20
_REPETITIONS = 4


def check_states(probe: Probe, picture: CheckPicture, states: Sequence[Any]) -> None:
    """Check the states of the first frame, and continue with them on another worker.

    A function that cannot be restarted gets the same frame several times, which reaches several of
    its workers.
    """
    collector = probe.collector
    for i, state in enumerate(states):
        path = f"states[{i}]"
        try:
            size = len(json.dumps(state, separators=(",", ":"), allow_nan=False))
        except ValueError:
            message = "has NaN or Infinity, which is not JSON"
            collector.add(picture.name, "state-json", path, message)
            continue
        if size > MAX_STATE_SIZE:
            message = f"takes {size / (1 << 20):.1f} MiB as JSON"
            collector.add(picture.name, "state-size", path, message)
    expected = probe.follow("the next frame", picture, states) if states else None
    if expected is None:
        return
    repetitions = 1 if probe.target.restart_workers() else _REPETITIONS
    for _ in range(repetitions):
        name = "the next frame on another worker"
        reply = probe.follow(name, picture, states)
        if reply is None:
            message = "the reply of another worker to the same states has errors"
        elif (difference := shapes_differ(expected, reply)) is not None:
            message = f"another worker continues differently: {difference}"
        else:
            continue
        collector.add(name, "state-worker", "states", message)
        return
