"""Workers keep the memory of freed images unless configured otherwise."""

from __future__ import annotations

import platform
from typing import Any

import pytest

from fnbuild.runtime import allocator

pytestmark = pytest.mark.system

# Several buffers freed at once are more than glibc keeps on its own.
FRAMES = """
import resource

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

def handler(context, event):
    for _ in range(6):
        before = faults()
        frames = [b"x" * 8000000 for _ in range(4)]
        del frames
    return {"faults": faults() - before}
"""

# The pages of the four buffers, if each had been faulted in again.
ALL = 4 * 8_000_000 // 4096

glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")


@glibc
def test_a_worker_keeps_freed_memory(serve: Any) -> None:
    assert serve(FRAMES).call()["faults"] < ALL / 10


@glibc
@pytest.mark.parametrize(
    "variables",
    [
        {allocator.VARIABLE: "default"},
        {"MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "65536"},
    ],
)
def test_variables_of_the_function_override_the_setting(
    serve: Any, variables: dict[str, str]
) -> None:
    assert serve(FRAMES, env=variables).call()["faults"] > ALL / 2


def test_nothing_is_set_if_the_feature_is_disabled() -> None:
    assert not allocator.tune({allocator.VARIABLE: "default"})
    assert not allocator.tune({variable: "65536" for *_, variable in allocator._SETTINGS})
