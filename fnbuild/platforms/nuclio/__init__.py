"""The Nuclio platform: functions with fnbuild's images in an existing Nuclio.

FNBUILD_NUCLIO_URL names the Nuclio dashboard that every command uses. Functions that nuctl and the
dashboard deployed are listed as well. NuclioFunction resources are printed, never applied.
"""

from fnbuild.platforms.base import ConnectOptions
from fnbuild.platforms.nuclio.platform import NuclioPlatform

__all__ = ["NuclioPlatform", "create_platform"]


def create_platform(_: ConnectOptions) -> NuclioPlatform:
    """Return the platform, which calls its dashboard on first use."""
    return NuclioPlatform()
