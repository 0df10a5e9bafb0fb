"""KServe's own configuration, the ConfigMap `inferenceservice-config`.

It is read and never changed: it applies to every model of the cluster, so a change for one
function would restart the others with another image.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass

from fnbuild.errors import PreconditionError
from fnbuild.function.types import Raw
from fnbuild.platforms.kserve.pod_fields import MODE_WORDS, Mode
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster, if_allowed

NAMESPACE_VARIABLE = "FNBUILD_KSERVE_NAMESPACE"
"""The variable with the namespace in which KServe is installed; `kserve` by default."""

_NAME = "inferenceservice-config"
_DEFAULT_DOMAIN = "example.com"
_DEFAULT_TEMPLATE = "{{ .Name }}-{{ .Namespace }}.{{ .IngressDomain }}"
_FIELD = re.compile(r"\{\{\s*\.(\w+)\s*\}\}")


@dataclass(frozen=True, slots=True)
class KServeConfig:
    """The configuration of KServe, with its defaults for absent values.

    `is_read` is False if this user may not read it, or it is elsewhere. `initializer_limits` are
    those of the init container that downloads models.
    """

    default_mode: Mode = "Standard"
    ingress_domain: str = _DEFAULT_DOMAIN
    domain_template: str = _DEFAULT_TEMPLATE
    initializer_limits: tuple[tuple[str, str], ...] = ()
    is_read: bool = False

    def host(self, namespace: str, name: str) -> str:
        """Return the host name of a service outside of the cluster."""
        fields = {"Name": name, "Namespace": namespace, "IngressDomain": self.ingress_domain}
        return _FIELD.sub(lambda field: fields.get(field[1], field[0]), self.domain_template)


def read_config(cluster: Cluster) -> KServeConfig:
    """Return KServe's configuration; its defaults without the right to read it."""
    namespace = os.environ.get(NAMESPACE_VARIABLE) or "kserve"
    config_map = if_allowed(lambda: cluster.get(kinds.CONFIG_MAP, namespace, _NAME), None)
    return KServeConfig() if config_map is None else parse_config(config_map.get("data") or {})


def parse_config(data: Raw) -> KServeConfig:
    """Return the configuration in the ConfigMap's data, whose values are JSON."""
    deploy, ingress = _section(data, "deploy"), _section(data, "ingress")
    initializer = _section(data, "storageInitializer")
    word = str(deploy.get("defaultDeploymentMode") or "")
    limits = {
        "cpu": str(initializer.get("cpuLimit") or ""),
        "memory": str(initializer.get("memoryLimit") or ""),
    }
    return KServeConfig(
        MODE_WORDS.get(word, "Standard"),
        str(ingress.get("ingressDomain") or _DEFAULT_DOMAIN),
        str(ingress.get("domainTemplate") or _DEFAULT_TEMPLATE),
        tuple((name, quantity) for name, quantity in limits.items() if quantity),
        is_read=True,
    )


def _section(data: Raw, name: str) -> Raw:
    try:
        value = json.loads(data.get(name) or "{}")
    except ValueError:
        return {}
    return value if isinstance(value, dict) else {}


def require_installed(cluster: Cluster) -> None:
    """Raise `PreconditionError` if the cluster has no InferenceServices."""
    if not cluster.serves(kinds.INFERENCE_SERVICE):
        raise PreconditionError(
            f"the cluster at {cluster.server} has no KServe: it does not serve"
            f" {kinds.INFERENCE_SERVICE.resource} of {kinds.INFERENCE_SERVICE.api_version}",
            hint="install KServe, or use `--platform kube`, which needs nothing but Kubernetes",
        )
