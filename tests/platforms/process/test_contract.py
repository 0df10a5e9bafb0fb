"""The process platform passes the contract tests of platforms."""

import pytest

from tests.platforms.contract import *  # noqa: F403

pytestmark = pytest.mark.system
