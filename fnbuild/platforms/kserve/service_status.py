"""The status of an InferenceService as KServe writes it: whether it serves, or why it will not."""

from __future__ import annotations

from collections.abc import Iterable
from urllib.parse import urlsplit

from fnbuild.platforms import ServiceStatus
from fnbuild.platforms.kserve.identity import GRPC_PORT_NAME
from fnbuild.platforms.kubeclient.objects import KubeDeployment, KubeObject
from fnbuild.platforms.kubeclient.pod_failures import Failure

_COMPONENTS = ("predictor", "transformer")
_BLOCKED = ("BlockedByFailedLoad", "InvalidSpec")
_FULL_TRAFFIC = 100

_REMEDIES = {
    "RuntimeNotRecognized": "`model.runtime` names a runtime that does not exist",
    "RuntimeDisabled": "enable the runtime, or select another one",
    "NoSupportingRuntime": "`kubectl get servingruntimes,clusterservingruntimes` lists them",
    "ModelLoadFailed": "the log of the server has the reason",
}


class InferenceService(KubeObject):
    """An InferenceService."""

    @property
    def is_observed(self) -> bool:
        """True if the status is that of the current spec."""
        observed = self.status.get("observedGeneration")
        return observed is None or int(observed) >= self.metadata.number("generation")

    @property
    def url(self) -> str:
        """The URL from outside of the cluster; "" before there is one."""
        return self.status.text("url")

    @property
    def host(self) -> str:
        """The host by which a gateway finds the service."""
        return urlsplit(self.url).netloc

    @property
    def internal_url(self) -> str:
        return self.status.section("address").text("url")

    @property
    def components(self) -> list[str]:
        """The components of the spec."""
        return [name for name in _COMPONENTS if self.spec.get(name)]

    def grpc_port(self, component: str) -> int:
        """Return the port of gRPC, which the component's Service has in Standard mode, or 0."""
        containers = self.spec.section(component).items_of("containers")
        ports = (port for container in containers for port in container.items_of("ports"))
        return next(
            (port.number("containerPort") for port in ports if port.text("name") == GRPC_PORT_NAME),
            0,
        )

    @property
    def mode(self) -> str:
        return self.status.text("deploymentMode")

    @property
    def unready_conditions(self) -> list[str]:
        """The messages of conditions that are not true."""
        conditions = self.status.items_of("conditions")
        return [
            ": ".join(
                filter(None, (item.text("type"), item.text("message") or item.text("reason")))
            )
            for item in conditions
            if item.get("status") != "True" and item.text("type") not in ("Ready", "Stopped")
        ]

    @property
    def failure(self) -> Failure | None:
        """The failure that KServe reports for the current spec, or None."""
        model = self.status.section("modelStatus")
        info = model.section("lastFailureInfo")
        if model.text("transitionStatus") not in _BLOCKED and not info:
            return None
        if model.text("transitionStatus") == "UpToDate":
            return None  # the failure of an earlier attempt
        reason = info.text("reason") or model.text("transitionStatus")
        text = ": ".join(filter(None, (reason, info.text("message"))))
        return Failure(text, _REMEDIES.get(reason, ""))

    @property
    def has_newest_revisions(self) -> bool:
        """True unless Knative still prepares the newest revision of a component."""
        sections = self.status.section("components")
        return all(
            not sections.section(name).text("latestCreatedRevision")
            or sections.section(name).text("latestCreatedRevision")
            == sections.section(name).text("latestReadyRevision")
            for name in self.components
        )

    def service_status(self) -> ServiceStatus:
        """Return the columns of KServe's own list."""
        outermost = "transformer" if self.spec.get("transformer") else "predictor"
        component = self.status.section("components").section(outermost)
        traffic = component.items_of("traffic")
        latest, previous = _FULL_TRAFFIC if self.is_ready else 0, 0
        if traffic:
            latest = sum(item.number("percent") for item in traffic if item.get("latestRevision"))
            previous = sum(
                item.number("percent") for item in traffic if not item.get("latestRevision")
            )
        elif canaries := self.spec.items_of("canary"):
            latest = sum(item.number("trafficPercent") for item in canaries)
            previous = _FULL_TRAFFIC - latest
        return ServiceStatus(
            self.url,
            self.condition("Ready").status or "Unknown",
            component.text("latestReadyRevision"),
            latest,
            component.text("previousRolledoutRevision"),
            previous,
            self.created,
        )


def is_rolled_out(service: InferenceService, deployments: Iterable[KubeDeployment]) -> bool:
    """Return True if the current spec serves.

    In Standard mode the Ready condition stays true while old pods are replaced, so the Deployments
    tell.
    """
    return (
        service.is_ready
        and service.is_observed
        and service.has_newest_revisions
        and all(deployment.is_rolled_out for deployment in deployments)
    )
