"""A model that takes twice the time for 8 values as for one.

The processor is idle meanwhile, as it is while a GPU computes.
"""

import os
import time

FIXED_SECONDS = 0.030
SECONDS_EACH = 0.005


def init_context(_context=None):
    """Report that this process is ready."""
    with open(os.path.join(os.environ["BENCH_READY"], str(os.getpid())), "w") as file:
        file.write(repr(time.monotonic()))


def predict(values):
    """Return the result for each value."""
    time.sleep(FIXED_SECONDS + SECONDS_EACH * len(values))
    return [{"number": value["number"] + 1} for value in values]


def handler(_context, events):
    if not isinstance(events, list):
        return predict([events.body])[0]
    return predict([event.body for event in events])
