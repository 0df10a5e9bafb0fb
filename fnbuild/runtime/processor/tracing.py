"""Traces across services: the W3C `traceparent` header, and OpenTelemetry spans where asked for.

A trace's id stands in the log records of its requests. Spans are made when an `OTEL_` variable is
set and the processor's interpreter has the opentelemetry SDK, which those variables configure:
OTEL_TRACES_EXPORTER (otlp), OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER …
"""

import os
import re
from importlib import import_module
from typing import TYPE_CHECKING, Any, Dict, Optional, Tuple

from ..logs import Log

if TYPE_CHECKING:
    from ..http.messages import HttpRequest, Reply
    from .pending_event import EventResult, PendingEvent

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_PROPAGATED = frozenset(["traceparent", "tracestate", "baggage"])

Fields = Tuple[Tuple[str, str], ...]


def trace_id_of(traceparent: Optional[str]) -> Optional[str]:
    """The trace's id in a `traceparent`; None where there is none or it is malformed."""
    match = _TRACEPARENT.match(traceparent) if traceparent else None
    return match.group(1) if match else None


class Span:
    """The span of one request."""

    def __init__(self, span: Any, trace: Any, propagate: Any) -> None:
        self._span = span
        self._trace = trace
        self._propagate = propagate

    def carry(self, fields: Fields) -> Fields:
        """The request's headers with this span in place of its parent, for the handler's own."""
        carrier: Dict[str, str] = {}
        self._propagate.inject(carrier, self._trace.set_span_in_context(self._span))
        kept = [pair for pair in fields if pair[0].lower() not in _PROPAGATED]
        return (*kept, *carrier.items())

    def end(self, reply: "Optional[Reply]", outcome: "Optional[EventResult]") -> None:
        """The request is answered, or its client is gone (None)."""
        span = self._span
        if reply is not None:
            span.set_attribute("http.response.status_code", reply.status)
            if reply.status >= 500:
                span.set_status(self._trace.StatusCode.ERROR, outcome.error if outcome else None)
        if outcome is not None and outcome.begun:
            span.set_attribute("fnbuild.handler.milliseconds", outcome.duration * 1000.0)
        span.end()


class Tracer:
    """Makes spans with the opentelemetry API."""

    def __init__(self, trace: Any, propagate: Any, function: str) -> None:
        self._trace = trace
        self._propagate = propagate
        self._function = function
        self._tracer = trace.get_tracer("fnbuild")

    def start(self, request: "HttpRequest", exchange: "PendingEvent") -> Span:
        """The span of a request, a child of what its `traceparent` names."""
        parent = self._propagate.extract(request.head.lookup())
        span = self._tracer.start_span(
            self._function,
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "url.path": request.path,
                "faas.name": self._function,
                "faas.trigger": "http",
                "faas.invocation_id": exchange.request_id,
                "http.request.body.size": len(request.body),
            },
        )
        exchange.trace_id = "%032x" % span.get_span_context().trace_id
        return Span(span, self._trace, self._propagate)


def create_tracer(function: str, env: Dict[str, str], log: Log) -> Optional[Tracer]:
    """The tracer that the function's variables or the processor's ask for, None without any."""
    for name, value in env.items():
        if name.startswith("OTEL_"):
            os.environ[name] = value
    asked = [name for name in os.environ if name.startswith("OTEL_")]
    if not asked or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        propagate = import_module("opentelemetry.propagate")
        trace = import_module("opentelemetry.trace")
        # opentelemetry-instrument may have set one up before.
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(_create_provider(function))
    except ImportError as problem:
        log.warn("%s is set, but there are no spans: %s" % (min(asked), problem))
        return None
    except Exception as problem:  # noqa: BLE001 - whatever an exporter lacks, the function serves
        log.warn("OpenTelemetry cannot be set up, so there are no spans: %s" % problem)
        return None
    return Tracer(trace, propagate, function)


def _create_provider(function: str) -> Any:
    """The SDK, which reads the rest of its variables itself, with the exporters asked for."""
    sdk = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    entry_points = import_module("importlib.metadata").entry_points
    os.environ.setdefault("OTEL_SERVICE_NAME", function)
    provider = sdk.TracerProvider()
    for name in os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(","):
        if name.strip() not in ("", "none"):
            found = [p for p in _exporter_entry_points(entry_points()) if p.name == name.strip()]
            if not found:
                raise LookupError("there is no exporter %s" % name.strip())
            provider.add_span_processor(export.BatchSpanProcessor(found[0].load()()))
    return provider


def _exporter_entry_points(points: Any) -> Any:
    group = "opentelemetry_traces_exporter"
    return points.select(group=group) if hasattr(points, "select") else points.get(group, ())
