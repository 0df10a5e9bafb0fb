"""TorchServe on this machine satisfies the contract of all platforms."""

import pytest

from tests.platforms.contract import *  # noqa: F403

pytestmark = pytest.mark.system
