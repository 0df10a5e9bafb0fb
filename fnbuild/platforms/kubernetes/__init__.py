"""The Kubernetes platform: functions as Deployments in the cluster of the kubeconfig.

The Deployment is the only source of truth; a ConfigMap keeps older revisions, imports and projects.
Every machine and data directory with access to the cluster sees the same state.
"""

from fnbuild.platforms.base import ConnectOptions
from fnbuild.platforms.kubernetes.platform import KubernetesPlatform

__all__ = ["KubernetesPlatform", "create_platform"]


def create_platform(options: ConnectOptions) -> KubernetesPlatform:
    """Return the platform, which connects to the cluster on first use."""
    return KubernetesPlatform(options)
