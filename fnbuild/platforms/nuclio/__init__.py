"""The Nuclio platform: functions with fnbuild's images inside a Nuclio that is there.

Two doors lead to it: its dashboard's API, when FNBUILD_NUCLIO_URL names one, else its resources in
the cluster of the kubeconfig. What nuctl and the dashboard deployed is there as well.
"""

from fnbuild.platforms.nuclio.adapter import NuclioPlatform

__all__ = ["NuclioPlatform", "connect"]


def connect() -> NuclioPlatform:
    """The platform; Nuclio is reached on first use."""
    return NuclioPlatform()
