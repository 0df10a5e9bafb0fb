"""A stand-in for KServe's controller in Standard mode, for tests on a real cluster.

It turns the InferenceServices of one namespace into Deployments and Services as KServe does, with
the names, labels, arguments and volumes of the real ones, and writes their status. A model is
downloaded by KServe's package for that, with the credentials of the service account; without the
package, the init container only prints the storage URI.
"""

from __future__ import annotations

import copy
import json
import threading
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from fnbuild.errors import FnbuildError
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.errors import RequestSubject, StaleError
from fnbuild.platforms.kubeclient.objects import KubeDeployment
from fnbuild.platforms.kubeclient.transport import ApiRequest
from tests.cluster import MERGE

_MANAGER = "kserve-controller"
_POLL_SECONDS = 0.25
_PYTHON_IMAGE = "python:3.11"
_DOWNLOAD = "import sys; print('Copying contents of', sys.argv[1], 'to local'); sys.exit({status})"
_REAL_DOWNLOAD = """\
import sys
from kserve_storage import Storage
from kserve_storage.logging import configure_logging
configure_logging()
Storage.download(sys.argv[1], "/mnt/models")
"""
_PACKAGES = "/packages"
_S3_KEYS = ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY")
_S3_SETTINGS = {
    "s3-region": "AWS_DEFAULT_REGION",
    "s3-usehttps": "S3_USE_HTTPS",
    "s3-verifyssl": "S3_VERIFY_SSL",
    "s3-endpoint": "S3_ENDPOINT",
}
_POD_FIELDS = ("nodeSelector", "tolerations", "serviceAccountName", "volumes", "securityContext",
               "automountServiceAccountToken", "imagePullSecrets")  # fmt: skip


class StandardController:
    """Acts for KServe in a namespace while its context lasts.

    `packages` is a folder of the node with `kserve_storage` for Python 3.11, which gets the
    variables of `environment`. `folders` are mounted into all servers, by their paths there: parts
    of images that would take too long to build.
    """

    def __init__(
        self,
        cluster: Cluster,
        namespace: str,
        packages: Path | None = None,
        *,
        environment: Mapping[str, str] | None = None,
        folders: Mapping[str, Path] | None = None,
    ):
        self._cluster = cluster
        self._packages = packages
        self._environment = environment or {}
        self._folders = folders or {}
        self._namespace = namespace
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.errors: list[str] = []

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(_POLL_SECONDS):
            try:
                for service in self._cluster.list(kinds.INFERENCE_SERVICE, self._namespace):
                    if "deletionTimestamp" not in service["metadata"]:
                        self._reconcile(service)
            except StaleError:
                pass  # tried again with the changed object, as controllers do
            except FnbuildError as error:
                self.errors.append(error.line)

    def _reconcile(self, service: dict[str, Any]) -> None:
        name, spec = service["metadata"]["name"], service["spec"]
        wanted = {f"{name}-{part}": (part, spec[part])
                  for part in ("predictor", "transformer") if spec.get(part)}  # fmt: skip
        for canary in spec.get("canary") or []:
            predictor = canary["predictor"]
            wanted[f"{name}-{predictor['name']}-predictor"] = ("predictor", predictor)
        stopped = service["metadata"].get("annotations", {}).get("serving.kserve.io/stop")
        failure: dict[str, Any] | None = None
        for object_name, (part, component) in (wanted if stopped != "true" else {}).items():
            try:
                template = self._template(service, object_name, part, component)
            except LookupError as error:
                failure = {"reason": "NoSupportingRuntime", "message": str(error)}
                continue
            self._apply(service, object_name, component, template)
        selector = f"serving.kserve.io/inferenceservice={name}"
        deployments = self._cluster.list(kinds.DEPLOYMENT, self._namespace, labels=selector)
        for deployment in deployments:
            if deployment["metadata"]["name"] not in wanted or stopped == "true":
                old = deployment["metadata"]["name"]
                self._cluster.delete(kinds.DEPLOYMENT, self._namespace, old)
        self._write_status(service, list(map(KubeDeployment, deployments)), wanted, failure)

    def _template(
        self, service: dict[str, Any], object_name: str, part: str, component: dict[str, Any]
    ) -> dict[str, Any]:
        """Return the template of the component's pods."""
        name = service["metadata"]["name"]
        pod = {key: component[key] for key in _POD_FIELDS if key in component}
        container, uri = self._container(service, part, component)
        container.setdefault("env", []).append({"name": "INFERENCE_SERVICE_NAME", "value": name})
        port = ((container.get("ports") or [{}])[0]).get("containerPort", 8080)
        container.setdefault("readinessProbe", {"tcpSocket": {"port": port}})
        container["readinessProbe"]["periodSeconds"] = 1
        pod["containers"] = [container]
        if uri:
            self._add_storage(pod, container, uri)
        self._add_folders(pod, container)
        if part == "transformer":
            pod["hostAliases"] = self._predictor_address(name)
        labels = {
            "app": f"isvc.{object_name}",
            "serving.kserve.io/inferenceservice": name,
            "component": part,
        }
        annotations = service["metadata"].get("annotations", {}) | component.get("annotations", {})
        return {"metadata": {"labels": labels, "annotations": annotations}, "spec": pod}

    def _container(
        self, service: dict[str, Any], part: str, component: dict[str, Any]
    ) -> tuple[dict[str, Any], str]:
        """Return the server's container, and the storage URI of its model or ""."""
        name = service["metadata"]["name"]
        if component.get("containers"):
            container = copy.deepcopy(component["containers"][0])
            env = container.get("env") or []
            [uri] = [item["value"] for item in env if item["name"] == "STORAGE_URI"] or [""]
            for item in env:
                if item["name"] == "STORAGE_URI":
                    item["value"] = "/mnt/models"
            if part == "transformer":
                self._add_arguments(container, name)
            return container, uri
        model = component["model"]
        runtime = self._runtime(model)
        container = copy.deepcopy(runtime["spec"]["containers"][0])
        text = json.dumps(container).replace("{{.Name}}", name)
        container = json.loads(text)
        container["args"] = [*(container.get("args") or []), *(model.get("args") or [])]
        for key in ("env", "resources"):
            if model.get(key):
                container[key] = model[key]
        return container, model.get("storageUri", "")

    def _runtime(self, model: dict[str, Any]) -> dict[str, Any]:
        runtimes = self._cluster.list(kinds.SERVING_RUNTIME, self._namespace)
        for runtime in runtimes:
            if model.get("runtime") in (None, runtime["metadata"]["name"]):
                formats = [item["name"] for item in runtime["spec"]["supportedModelFormats"]]
                if model["modelFormat"]["name"] in formats:
                    return runtime
        raise LookupError(f"no runtime found to support predictor with model type {model}")

    def _add_arguments(self, container: dict[str, Any], name: str) -> None:
        arguments = container.setdefault("args", [])
        for option, value in (
            ("--model_name", name),
            ("--predictor_host", f"{name}-predictor.{self._namespace}"),
            ("--http_port", "8080"),
        ):
            if not any(argument.startswith(option) for argument in arguments):
                arguments += [option, value]

    def _add_folders(self, pod: dict[str, Any], container: dict[str, Any]) -> None:
        for number, (path, folder) in enumerate(self._folders.items()):
            name = f"folder-{number}"
            volume = {"name": name, "hostPath": {"path": str(folder)}}
            pod["volumes"] = [*(pod.get("volumes") or []), volume]
            mount = {"name": name, "mountPath": path}
            container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]

    def _predictor_address(self, name: str) -> list[dict[str, Any]]:
        """Return the name of the predictor's Service, for clusters without DNS."""
        host = f"{name}-predictor"
        service = self._cluster.get(kinds.SERVICE, self._namespace, host)
        if service is None:
            return []
        return [{"ip": service["spec"]["clusterIP"], "hostnames": [f"{host}.{self._namespace}"]}]

    def _add_storage(self, pod: dict[str, Any], container: dict[str, Any], uri: str) -> None:
        scheme, _, rest = uri.partition("://")
        mount = {"name": "kserve-provision-location", "mountPath": "/mnt/models"}
        volume: dict[str, Any] = {"name": mount["name"], "emptyDir": {}}
        if scheme == "pvc":
            claim, _, folder = rest.rstrip("/").partition("/")
            volume = {"name": mount["name"], "persistentVolumeClaim": {"claimName": claim}}
            mount |= {"readOnly": True, **({"subPath": folder} if folder else {})}
        else:
            pod["initContainers"] = [self._initializer(pod, mount, uri)]
        pod["volumes"] = [*(pod.get("volumes") or []), volume]
        container["volumeMounts"] = [*(container.get("volumeMounts") or []), mount]

    def _initializer(self, pod: dict[str, Any], mount: dict[str, Any], uri: str) -> dict[str, Any]:
        """Return the container that downloads the model; add its volume to the pod."""
        # The name of a file that cannot be downloaded.
        status = 1 if "missing" in uri else 0
        initializer = {
            "name": "storage-initializer",
            "image": _PYTHON_IMAGE,
            "command": ["python3", "-c", _DOWNLOAD.format(status=status), uri],
            "volumeMounts": [dict(mount)],
        }
        if self._packages is None:
            return initializer
        folder = {"name": "packages", "hostPath": {"path": str(self._packages)}}
        pod["volumes"] = [*(pod.get("volumes") or []), folder]
        packages = {"name": "packages", "mountPath": _PACKAGES, "readOnly": True}
        return initializer | {
            "command": ["python3", "-c", _REAL_DOWNLOAD, uri],
            "env": [
                {"name": "PYTHONPATH", "value": _PACKAGES},
                *({"name": name, "value": value} for name, value in self._environment.items()),
                *self._credentials(pod.get("serviceAccountName", "default")),
            ],
            "volumeMounts": [dict(mount), packages],
        }

    def _credentials(self, account_name: str) -> list[dict[str, Any]]:
        """Return the variables for S3 by the Secrets of the account, as KServe sets them."""
        account = self._cluster.get(kinds.SERVICE_ACCOUNT, self._namespace, account_name) or {}
        variables = []
        for reference in account.get("secrets") or []:
            name = reference["name"]
            secret = self._cluster.get(kinds.SECRET, self._namespace, name) or {}
            for key in _S3_KEYS:
                if key in (secret.get("data") or {}):
                    source = {"secretKeyRef": {"name": name, "key": key}}
                    variables.append({"name": key, "valueFrom": source})
            annotations = (secret.get("metadata") or {}).get("annotations") or {}
            values = {
                variable: annotations[f"serving.kserve.io/{key}"]
                for key, variable in _S3_SETTINGS.items()
                if f"serving.kserve.io/{key}" in annotations
            }
            if "S3_ENDPOINT" in values:
                scheme = "http" if values.get("S3_USE_HTTPS") == "0" else "https"
                values["AWS_ENDPOINT_URL"] = f"{scheme}://{values['S3_ENDPOINT']}"
            variables += [{"name": key, "value": value} for key, value in values.items()]
        return variables

    def _apply(
        self,
        service: dict[str, Any],
        name: str,
        component: dict[str, Any],
        template: dict[str, Any],
    ) -> None:
        owner = {"apiVersion": service["apiVersion"], "kind": service["kind"],
                 "name": service["metadata"]["name"], "uid": service["metadata"]["uid"],
                 "controller": True, "blockOwnerDeletion": True}  # fmt: skip
        metadata = {"name": name, "namespace": self._namespace, "ownerReferences": [owner],
                    "labels": template["metadata"]["labels"]}  # fmt: skip
        selector = {"app": template["metadata"]["labels"]["app"]}
        spec = {
            "replicas": component.get("minReplicas", 1),
            "selector": {"matchLabels": selector},
            "template": template,
            "strategy": component.get("deploymentStrategy") or {"type": "RollingUpdate"},
        }
        http, *others = template["spec"]["containers"][0].get("ports") or [{"containerPort": 8080}]
        ports = [("http", 80, http["containerPort"])]
        ports += [(item["name"], item["containerPort"], item["containerPort"]) for item in others]
        service_ports = [
            {"name": name, "protocol": "TCP", "port": port, "targetPort": target}
            for name, port, target in ports
        ]
        service_spec = {"selector": selector, "ports": service_ports}
        for manifest in (
            kinds.DEPLOYMENT.manifest(metadata, spec=spec),
            kinds.SERVICE.manifest(metadata, spec=service_spec),
        ):
            self._cluster.apply(manifest, force=True, manager=_MANAGER)

    def _write_status(
        self,
        service: dict[str, Any],
        deployments: list[KubeDeployment],
        wanted: dict[str, Any],
        failure: dict[str, Any] | None,
    ) -> None:
        name = service["metadata"]["name"]
        available = {item.name: item.condition("Available").is_true for item in deployments}
        ready = bool(wanted) and all(available.get(each) for each in wanted) and not failure
        condition = {"type": "Ready", "status": str(ready)}
        components = [
            {"type": f"{part.title()}Ready", "status": str(available.get(each, False))}
            for each, (part, _) in wanted.items()
        ]
        status: dict[str, Any] = {
            "observedGeneration": service["metadata"]["generation"],
            "conditions": [*components, condition],
            "deploymentMode": "Standard",
        }
        if ready:
            status["url"] = f"http://{name}-{self._namespace}.example.com"
            status["address"] = {"url": f"http://{name}-predictor.{self._namespace}"}
        transition = "UpToDate" if ready else "InvalidSpec" if failure else "InProgress"
        status["modelStatus"] = {"transitionStatus": transition}
        if failure:
            status["modelStatus"]["lastFailureInfo"] = failure
        if status == service.get("status"):
            return
        path = kinds.INFERENCE_SERVICE.path(self._namespace, name) + "/status"
        request = ApiRequest("PATCH", path, {"fieldManager": _MANAGER}, {"status": status}, MERGE)
        subject = RequestSubject("patch", kinds.INFERENCE_SERVICE, self._namespace, name)
        with suppress(FnbuildError):
            self._cluster.transport.request_json(request, subject)
