"""The kinds of objects that fnbuild uses, and their paths in the API."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from fnbuild.errors import InputError
from fnbuild.function.types import Raw


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of objects in one version of its API: `api_version` is "v1", "apps/v1" …"""

    api_version: str
    name: str
    plural: str
    namespaced: bool = True

    @property
    def group(self) -> str:
        """The API group; "" for the core."""
        return self.api_version.rpartition("/")[0]

    @property
    def resource(self) -> str:
        """The resource name of kubectl and RBAC: `deployments.apps`, `pods`."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    @property
    def api_path(self) -> str:
        """The path of the API version, which is also that of its discovery document."""
        return f"/apis/{self.api_version}" if self.group else f"/api/{self.api_version}"

    def path(self, namespace: str | None, name: str = "", subresource: str = "") -> str:
        """Return the path of an object, or of the collection; None stands for all namespaces."""
        for segment in (namespace, name):
            if segment in (".", ".."):
                # Percent-encoding does not change these names, and the path would be another one.
                raise InputError(f"{segment!r} cannot be a name in a cluster")
        parts = [self.api_path]
        if self.namespaced and namespace is not None:
            parts += ["namespaces", quote(namespace, safe="")]
        parts.append(self.plural)
        if name:
            parts.append(quote(name, safe=":"))
        if subresource:
            parts.append(subresource)
        return "/".join(parts)

    def manifest(self, metadata: Raw, **content: Any) -> Raw:
        """Return an object of this kind; `content` is what follows its metadata."""
        return {"apiVersion": self.api_version, "kind": self.name, "metadata": metadata, **content}


NAMESPACE = Kind("v1", "Namespace", "namespaces", namespaced=False)
NODE = Kind("v1", "Node", "nodes", namespaced=False)
POD = Kind("v1", "Pod", "pods")
SERVICE = Kind("v1", "Service", "services")
CONFIG_MAP = Kind("v1", "ConfigMap", "configmaps")
ENDPOINTS = Kind("v1", "Endpoints", "endpoints")
SECRET = Kind("v1", "Secret", "secrets")
EVENT = Kind("v1", "Event", "events")
SERVICE_ACCOUNT = Kind("v1", "ServiceAccount", "serviceaccounts")
VOLUME_CLAIM = Kind("v1", "PersistentVolumeClaim", "persistentvolumeclaims")

DEPLOYMENT = Kind("apps/v1", "Deployment", "deployments")
REPLICA_SET = Kind("apps/v1", "ReplicaSet", "replicasets")
DAEMON_SET = Kind("apps/v1", "DaemonSet", "daemonsets")

INGRESS = Kind("networking.k8s.io/v1", "Ingress", "ingresses")

HPA_V2 = Kind("autoscaling/v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
HPA_V2BETA2 = Kind("autoscaling/v2beta2", "HorizontalPodAutoscaler", "horizontalpodautoscalers")
HPA_V1 = Kind("autoscaling/v1", "HorizontalPodAutoscaler", "horizontalpodautoscalers")

CRON_JOB = Kind("batch/v1", "CronJob", "cronjobs")
CRON_JOB_V1BETA1 = Kind("batch/v1beta1", "CronJob", "cronjobs")

ACCESS_REVIEW = Kind(
    "authorization.k8s.io/v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", False
)
DISRUPTION_BUDGET = Kind("policy/v1", "PodDisruptionBudget", "poddisruptionbudgets")
DISRUPTION_BUDGET_V1BETA1 = Kind("policy/v1beta1", "PodDisruptionBudget", "poddisruptionbudgets")
NETWORK_POLICY = Kind("networking.k8s.io/v1", "NetworkPolicy", "networkpolicies")
INGRESS_CLASS = Kind("networking.k8s.io/v1", "IngressClass", "ingressclasses", False)

# Of add-ons: https://karpenter.sh, https://prometheus-operator.dev.
KARPENTER_NODE_POOL = Kind("karpenter.sh/v1", "NodePool", "nodepools", False)
POD_MONITOR = Kind("monitoring.coreos.com/v1", "PodMonitor", "podmonitors")

# Of KEDA and its HTTP add-on: https://keda.sh. A release of the add-on before 0.14 has the older
# kind of routes alone.
SCALED_OBJECT = Kind("keda.sh/v1alpha1", "ScaledObject", "scaledobjects")
INTERCEPTOR_ROUTE = Kind("http.keda.sh/v1beta1", "InterceptorRoute", "interceptorroutes")
HTTP_SCALED_OBJECT = Kind("http.keda.sh/v1alpha1", "HTTPScaledObject", "httpscaledobjects")

# Of KServe: https://kserve.github.io.
INFERENCE_SERVICE = Kind("serving.kserve.io/v1beta1", "InferenceService", "inferenceservices")
SERVING_RUNTIME = Kind("serving.kserve.io/v1alpha1", "ServingRuntime", "servingruntimes")
CLUSTER_SERVING_RUNTIME = Kind(
    "serving.kserve.io/v1alpha1", "ClusterServingRuntime", "clusterservingruntimes", False
)

VOLUME = Kind("v1", "PersistentVolume", "persistentvolumes", False)
STORAGE_CLASS = Kind("storage.k8s.io/v1", "StorageClass", "storageclasses", False)
LEASE = Kind("coordination.k8s.io/v1", "Lease", "leases")

_KINDS = {
    (kind.api_version, kind.name): kind
    for kind in tuple(globals().values())
    if isinstance(kind, Kind)
}


def kind_of(manifest: Raw) -> Kind:
    """Return the kind of a manifest. Raises `InputError` for a kind that fnbuild does not use."""
    api, name = str(manifest.get("apiVersion", "")), str(manifest.get("kind", ""))
    try:
        return _KINDS[api, name]
    except KeyError:
        raise InputError(
            f"fnbuild does not use objects of kind {name or '(none)'} ({api or 'no apiVersion'})"
        ) from None
