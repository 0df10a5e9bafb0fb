"""The process platform passes the contract tests of platforms."""

from tests.platforms.contract import *  # noqa: F403
