"""The way to a cluster: a kubeconfig's context, or the service account of the pod that this is in.

The official client reads credentials of every sort (certificates, tokens, plugins); it is slow to
import, so late.
"""

from __future__ import annotations

import ipaddress
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from fnbuild.errors import UnavailableError
from fnbuild.platforms.kubeclient import kubeconfig
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.connection_errors import ServerLocation
from fnbuild.platforms.kubeclient.kubeconfig import KubeContext
from fnbuild.platforms.kubeclient.transport import Transport, raising_plugin_errors

_SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where a pod finds its account's token, its namespace and the API's authority."""


def connect() -> Cluster:
    """The cluster of FNBUILD_CONTEXT or the current context of the kubeconfig, or the one around.

    Nothing is asked of it yet. Raises `UnavailableError` with what was looked for.
    """
    context = kubeconfig.current_context()
    try:
        import kubernetes.client  # noqa: F401 (the first import says whether it is there)
    except ImportError as error:
        raise UnavailableError(
            "clusters need the Python package kubernetes", hint="`pip install kubernetes`"
        ) from error
    if context is not None:
        return _connect_to_context(context)
    if _in_cluster():
        return _connect_in_cluster()
    raise UnavailableError(
        f"there is no Kubernetes cluster to go to: {kubeconfig.missing_context()}, and this does"
        " not run in a pod with an account",
        hint="`--kubeconfig FILE` or KUBECONFIG names one; without a cluster: `--platform local`",
    )


def is_configured() -> bool:
    """Whether there is a kubeconfig or a pod's account. Asks no server."""
    return bool(kubeconfig.existing_files()) or _in_cluster()


def default_namespace() -> str:
    """The namespace of the context, or the pod's own; "" when there is none.

    Raises `UnavailableError` for a kubeconfig that cannot be read.
    """
    context = kubeconfig.current_context()
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
    from kubernetes.client import Configuration
    from kubernetes.config import load_kube_config, load_kube_config_from_dict

    place = ServerLocation(
        str(context.cluster["server"]).rstrip("/"), context.name, str(context.file)
    )
    if (missing := kubeconfig.missing_plugin_error(context)) is not None:
        raise missing
    configuration = Configuration()
    with raising_plugin_errors(context.plugin):
        try:
            if "auth-provider" in context.user:
                # Its tokens are renewed in the file that they are from.
                load_kube_config(
                    os.pathsep.join(map(str, kubeconfig.existing_files())),
                    context.name,
                    configuration,
                )
            else:
                load_kube_config_from_dict(context.as_config(), context.name, configuration)
        except Exception as error:  # noqa: BLE001 (of every kind, and with keys in their texts)
            raise _unusable_kubeconfig(error, place) from None
    if "proxy-url" not in context.cluster:
        _bypass_proxy(configuration)
    return Cluster(Transport(configuration, place, context.plugin), context.name, context.namespace)


def _unusable_kubeconfig(error: Exception, place: ServerLocation) -> UnavailableError:
    text = str(error)
    named = text if text.startswith("File does not exist") else type(error).__name__
    return UnavailableError(
        f"the kubeconfig {place.file} cannot be used for context {place.context}: {named}",
        hint="`kubectl config view` shows it; does `kubectl version` work with it?",
    )


def _connect_in_cluster() -> Cluster:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException
    from kubernetes.config.incluster_config import InClusterConfigLoader

    configuration = Configuration()
    loader = InClusterConfigLoader(
        token_filename=str(_SERVICE_ACCOUNT / "token"),
        cert_filename=str(_SERVICE_ACCOUNT / "ca.crt"),
    )
    try:
        loader.load_and_set(configuration)
    except (ConfigException, OSError) as error:
        raise UnavailableError(
            f"the account of this pod in {_SERVICE_ACCOUNT} cannot be used: {error}"
        ) from error
    _bypass_proxy(configuration)
    place = ServerLocation(configuration.host)
    return Cluster(Transport(configuration, place), "", _pod_namespace(), in_cluster=True)


def _bypass_proxy(configuration: Any) -> None:
    """No proxy of the environment is between this machine and itself, as for Go's programs."""
    if is_loopback(urlsplit(configuration.host).hostname or ""):
        configuration.proxy = None


def is_loopback(host: str) -> bool:
    """Whether the address or name of a host means this machine itself."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
