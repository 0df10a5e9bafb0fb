"""Endpoints of Nuclio's dashboard other than those of functions and projects.

These are settings, versions, namespaces and addresses, and features that fnbuild does not have,
which respond as in an empty Nuclio. The objects are those of pkg/dashboard/resource/frontend.go,
versions.go, namespaces.go, externalipaddresses.go, apigateway.go and v3iostream.go.
"""

from __future__ import annotations

import platform
from importlib import metadata

from starlette.requests import Request
from starlette.responses import Response

from fnbuild.dashboard.auth.middleware import is_writer
from fnbuild.dashboard.endpoints import JSON_OBJECT, Endpoint, Handler
from fnbuild.dashboard.http import json_response, read_json
from fnbuild.dashboard.objects import redact_values
from fnbuild.dashboard.services import services_of
from fnbuild.errors import NotFoundError, PreconditionError
from fnbuild.function.merge import DEFAULT_HTTP_TRIGGER, merge_functions
from fnbuild.function.reader import function_from_dict
from fnbuild.function.types import Function, Raw, Spec, Trigger, to_dict
from fnbuild.platforms.api_objects import with_go_defaults

NUCLIO_VERSION = "1.17.9"
"""The release of Nuclio whose behaviour is matched.

Clients compare it to find out which features exist: mlrun uses none of a later release.
"""

_WINDOW_SIZES = ("1m", "2m", "5m", "10m", "30m", "1h", "2h", "4h", "8h", "12h", "24h")
_ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}


_AVAILABILITY_MILLISECONDS = 10_000  # milliseconds that an event waits for a worker
_NEW_FUNCTION = Function(
    spec=Spec(
        min_replicas=1,
        max_replicas=1,
        readiness_timeout_seconds=120,
        target_cpu=75,
        triggers={
            DEFAULT_HTTP_TRIGGER: Trigger(
                kind="http",
                name=DEFAULT_HTTP_TRIGGER,
                num_workers=1,
                worker_availability_timeout_milliseconds=_AVAILABILITY_MILLISECONDS,
                attributes={"serviceType": "NodePort"},
            ),
            # Initial values of new triggers, by kind.
            "http": Trigger(
                worker_availability_timeout_milliseconds=_AVAILABILITY_MILLISECONDS,
                attributes={"serviceType": "NodePort"},
            ),
            "cron": Trigger(worker_availability_timeout_milliseconds=_AVAILABILITY_MILLISECONDS),
        },
    )
)
"""The initial values of a new function on Nuclio's page, with fnbuild's numbers."""


async def get_frontend_spec(request: Request) -> Response:
    """Return the settings of Nuclio's page, with all keys of Nuclio 1.17."""
    settings = services_of(request).settings
    spec = {
        "externalIPAddresses": list(settings.external_ips),
        "namespace": settings.namespace,
        "defaultHTTPIngressHostTemplate": "",
        "imageNamePrefixTemplate": "",
        "scaleToZero": {
            "mode": "disabled",
            "inactivityWindowPresets": list(_WINDOW_SIZES),
            "scaleResources": [],
        },
        "defaultFunctionConfig": {
            "attributes": _default_function(settings.defaults, show_values=is_writer(request))
        },
        "platformKind": services_of(request).inventory.platform().name,
        "allowedAuthenticationModes": ["none", "basicAuth", "accessKey"],
        "validFunctionPriorityClassNames": [],
        "defaultFunctionPodResources": {},
        "autoScaleMetrics": {
            "customMetricsEnabled": False,
            "metricPresets": [],
            "windowSizePresets": list(_WINDOW_SIZES),
        },
        "disableDefaultHttpTrigger": False,
        "defaultProxyLogsSource": "",
    }
    return json_response({"frontendSpec": spec})


def _default_function(defaults: Raw, *, show_values: bool) -> Raw:
    """Merge the dashboard's own defaults over Nuclio's."""
    function = merge_functions(
        function_from_dict(defaults, "the dashboard's defaults"), _NEW_FUNCTION
    )
    return with_go_defaults(redact_values(to_dict(function), show_values=show_values))


async def get_versions(_: Request) -> Response:
    """Return the matched release of Nuclio, fnbuild's own, and the platform."""
    machine = platform.machine()
    version = {
        "label": NUCLIO_VERSION,
        "fnbuild": metadata.version("fnbuild"),
        "gitCommit": "",
        "os": platform.system().lower(),
        "arch": _ARCHITECTURES.get(machine, machine),
    }
    return json_response({"dashboard": version})


async def list_namespaces(request: Request) -> Response:
    """List the dashboard's own namespace; clients may use others by name."""
    names = [services_of(request).settings.namespace]
    return json_response({"namespaces": {"names": names}})


async def list_external_ip_addresses(request: Request) -> Response:
    """List the configured addresses of functions, else the dashboard's host in the request.

    The list is never empty, because nuclio-jupyter takes the first item without a check.
    """
    addresses = list(services_of(request).settings.external_ips) or [request.url.hostname or ""]
    return json_response({"externalIPAddresses": {"addresses": addresses}})


async def get_empty_object(_: Request) -> Response:
    """Return an object without items."""
    return json_response({})


async def get_gateway(request: Request) -> Response:
    raise NotFoundError(
        f"there is no API gateway {request.path_params['id']}",
        hint="a function's trigger of kind http has an ingress of its own",
    )


async def refuse_gateway(_: Request) -> Response:
    """Refuse a gateway as Nuclio does on platforms other than Kubernetes."""
    raise PreconditionError(
        "there are no API gateways here",
        hint="a function's trigger of kind http has an ingress of its own",
    )


async def delete_gateway(_: Request) -> Response:
    """Respond with success: there are no gateways, and clients delete ones that may not exist."""
    return Response(status_code=204)


async def get_shard_lags(request: Request) -> Response:
    """Return the lags of a stream's shards: there are no streams."""
    await read_json(request)
    return json_response({})


def _reading_endpoint(
    path: str, handler: Handler, summary: str, *, method: str = "GET"
) -> Endpoint:
    return Endpoint(path, method, "read", handler, summary, response_content=JSON_OBJECT)


def _changing_endpoint(
    path: str, method: str, handler: Handler, summary: str, *, status: int = 412
) -> Endpoint:
    takes = {} if path.endswith("}") and method == "DELETE" else JSON_OBJECT
    return Endpoint(path, method, "write", handler, summary, request_content=takes, status=status)


_GATEWAYS, _GATEWAY = "/api/api_gateways", "/api/api_gateways/{id}"
_REFUSED_SUMMARY = "Create or change an API gateway: refused, there are none."
_DELETE_SUMMARY = "Delete an API gateway: there are none."

ENDPOINTS: tuple[Endpoint, ...] = (
    _reading_endpoint(
        "/api/frontend_spec", get_frontend_spec, "Get the settings of Nuclio's page."
    ),
    _reading_endpoint(
        "/api/versions", get_versions, "Get the matched release of Nuclio, and fnbuild's."
    ),
    _reading_endpoint("/api/namespaces", list_namespaces, "List the dashboard's namespace."),
    _reading_endpoint(
        "/api/external_ip_addresses",
        list_external_ip_addresses,
        "List the addresses at which other machines reach functions.",
    ),
    _reading_endpoint(_GATEWAYS, get_empty_object, "List API gateways: there are none."),
    _reading_endpoint(_GATEWAY, get_gateway, "Get an API gateway: there are none."),
    _changing_endpoint(_GATEWAYS, "POST", refuse_gateway, _REFUSED_SUMMARY),
    _changing_endpoint(_GATEWAY, "PUT", refuse_gateway, _REFUSED_SUMMARY),
    _changing_endpoint(_GATEWAYS, "DELETE", delete_gateway, _DELETE_SUMMARY, status=204),
    _changing_endpoint(_GATEWAY, "DELETE", delete_gateway, _DELETE_SUMMARY, status=204),
    _reading_endpoint("/api/v3io_streams", get_empty_object, "List V3IO streams: there are none."),
    _reading_endpoint(
        "/api/v3io_streams/get_shard_lags",
        get_shard_lags,
        "Get the lags of a stream's shards: there are no streams.",
        method="POST",
    ),
)
