"""The Kubernetes platform: functions as Deployments of the cluster that the kubeconfig names.

The Deployment alone says what runs; a ConfigMap remembers older revisions, imports and projects.
Any machine and data directory that reaches the cluster sees the same.
"""

from fnbuild.platforms.kubernetes.platform import KubernetesPlatform

__all__ = ["KubernetesPlatform", "connect"]


def connect() -> KubernetesPlatform:
    """The platform; the cluster is reached on first use."""
    return KubernetesPlatform()
