"""Connect to a cluster: by a kubeconfig's context, or by the service account of this pod."""

from __future__ import annotations

import os
from pathlib import Path

from fnbuild.errors import UnavailableError
from fnbuild.hosts import bracketed
from fnbuild.platforms.base import NO_CONNECT_OPTIONS, ConnectOptions
from fnbuild.platforms.kubeclient import connection_errors, credentials, kubeconfig
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.connection_errors import ServerLocation
from fnbuild.platforms.kubeclient.kubeconfig import KubeContext
from fnbuild.platforms.kubeclient.transport import Transport

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""The folder with the token of a pod's service account, its namespace and the API's CA."""


def connect(options: ConnectOptions = NO_CONNECT_OPTIONS) -> Cluster:
    """Return the cluster of the selected context, or of the surrounding pod.

    No request is sent. Raises `UnavailableError`, with the places that were searched, if there is
    none.
    """
    context = kubeconfig.current_context(options)
    if context is not None:
        return _connect_to_context(context)
    if _in_cluster():
        return _connect_in_cluster()
    raise UnavailableError(
        f"no Kubernetes cluster is configured: {kubeconfig.missing_context(options)}, and this"
        " does not run in a pod with an account",
        hint="`--kubeconfig FILE` or KUBECONFIG sets one; without a cluster: `--platform local`",
    )


def is_configured(options: ConnectOptions = NO_CONNECT_OPTIONS) -> bool:
    """Return True if there is a kubeconfig or a pod's service account. No request is sent."""
    return bool(kubeconfig.existing_files(options)) or _in_cluster()


def default_namespace(options: ConnectOptions = NO_CONNECT_OPTIONS) -> str:
    """Return the namespace of the context or of the pod, or "".

    Raises `UnavailableError` for a kubeconfig that cannot be read.
    """
    context = kubeconfig.current_context(options)
    if context is not None:
        return context.namespace
    return _pod_namespace() if _in_cluster() else ""


def _in_cluster() -> bool:
    return (
        bool(os.environ.get("KUBERNETES_SERVICE_HOST")) and (_SERVICE_ACCOUNT / "token").is_file()
    )


def _pod_namespace() -> str:
    try:
        return (_SERVICE_ACCOUNT / "namespace").read_text().strip()
    except OSError:
        return ""


def _connect_to_context(context: KubeContext) -> Cluster:
    url = str(context.cluster["server"]).rstrip("/")
    server = ServerLocation(url, context.name, str(context.file))
    try:
        access = credentials.of_context(context)
    except OSError as error:
        raise connection_errors.connection_error(error, server) from error
    return Cluster(Transport(access, server), context.name, context.namespace)


def _connect_in_cluster() -> Cluster:
    host, port = os.environ["KUBERNETES_SERVICE_HOST"], os.environ.get("KUBERNETES_SERVICE_PORT")
    url = f"https://{bracketed(host)}:{port or 443}"
    try:
        access = credentials.of_service_account(_SERVICE_ACCOUNT, url)
    except OSError as error:
        raise UnavailableError(
            f"the account of this pod in {_SERVICE_ACCOUNT} cannot be used: {error}"
        ) from error
    return Cluster(Transport(access, ServerLocation(url)), "", _pod_namespace(), in_cluster=True)
