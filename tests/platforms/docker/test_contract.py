"""The Docker platform keeps what every platform promises."""

import pytest

from tests.platforms.contract import *  # noqa: F403

pytestmark = pytest.mark.system
