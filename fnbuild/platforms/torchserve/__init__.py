"""TorchServe: functions as archives in its model stores, on this machine and in a cluster."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from fnbuild.platforms import ConnectOptions

if TYPE_CHECKING:
    from fnbuild.platforms.torchserve.management import ManagedPlatform


def create_platform(options: ConnectOptions) -> ManagedPlatform:
    """Return the platform of this machine, or of the cluster that the options name."""
    if names_cluster(options):
        from fnbuild.platforms.torchserve.cluster.platform import ClusterPlatform

        return ClusterPlatform(options)
    from fnbuild.platforms.torchserve.machine import MachinePlatform

    return MachinePlatform()


def names_cluster(options: ConnectOptions) -> bool:
    """Return True in a pod, and if the options or the environment name a cluster."""
    variables = ("KUBECONFIG", "FNBUILD_CONTEXT", "KUBERNETES_SERVICE_HOST")
    return bool(options.kubeconfig or options.context or any(map(os.environ.get, variables)))
