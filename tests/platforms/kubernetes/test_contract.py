"""The Kubernetes platform satisfies the contract of all platforms."""

import pytest

from tests.platforms.contract import *  # noqa: F403
from tests.platforms.contract import RunningFunction, RunningInCluster

pytestmark = pytest.mark.system


@pytest.fixture
def running_function() -> type[RunningFunction]:
    return RunningInCluster
