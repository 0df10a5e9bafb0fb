"""The Docker platform keeps what every platform promises."""

from tests.platforms.contract import *  # noqa: F403
