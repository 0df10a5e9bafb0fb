"""Tasks that start immediately, if this version of asyncio has eager tasks."""

import asyncio
import sys
from functools import partial
from typing import Callable

# An application that needs no waiting is answered without a turn of the loop.
if sys.version_info >= (3, 12):
    begin_task: Callable[..., "asyncio.Task[None]"] = partial(asyncio.Task, eager_start=True)
else:
    begin_task = asyncio.Task
