"""Distributed tracing: the W3C `traceparent` header, and OpenTelemetry spans on request.

Log records contain the trace id of their request. Spans are created if an `OTEL_` variable is set
and the processor's interpreter has the opentelemetry SDK. The variables configure the SDK:
OTEL_TRACES_EXPORTER (otlp), OTEL_EXPORTER_OTLP_ENDPOINT, OTEL_TRACES_SAMPLER …
"""

import os
import re
from importlib import import_module
from typing import Any, Dict, Optional, Tuple

from ..http.messages import HttpRequest, Reply
from ..logs import Log
from .pending_event import EventResult, PendingEvent

_TRACEPARENT = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}"
)
_PROPAGATED = frozenset(["traceparent", "tracestate", "baggage"])

Fields = Tuple[Tuple[str, str], ...]


def trace_id_of(traceparent: Optional[str]) -> Optional[str]:
    """Return the trace id in a `traceparent`, or None if that is missing or malformed."""
    match = _TRACEPARENT.match(traceparent) if traceparent else None
    return match.group(1) if match else None


class Span:
    """The span of a request."""

    def __init__(self, span: Any, trace: Any, propagate: Any) -> None:
        self._span = span
        self._trace = trace
        self._propagator = propagate

    def propagate(self, fields: Fields) -> Fields:
        """Return the request's headers with this span as the parent of the handler's spans."""
        carrier: Dict[str, str] = {}
        self._propagator.inject(carrier, self._trace.set_span_in_context(self._span))
        kept = [pair for pair in fields if pair[0].lower() not in _PROPAGATED]
        return (*kept, *carrier.items())

    def end(self, reply: Optional[Reply], result: Optional[EventResult]) -> None:
        """End the span with the reply, or None if the client has disconnected."""
        span = self._span
        if reply is not None:
            span.set_attribute("http.response.status_code", reply.status)
            if reply.status >= 500:
                span.set_status(self._trace.StatusCode.ERROR, result.error if result else None)
        if result is not None and result.started:
            span.set_attribute("fnbuild.handler.milliseconds", result.duration * 1000.0)
        span.end()


class Tracer:
    """Creates spans with the opentelemetry API."""

    def __init__(self, trace: Any, propagate: Any, function: str) -> None:
        self._trace = trace
        self._propagator = propagate
        self._function = function
        self._tracer = trace.get_tracer("fnbuild")

    def start(self, request: HttpRequest, event: PendingEvent) -> Span:
        """Start the span of a request, a child of the span in its `traceparent`."""
        parent = self._propagator.extract(request.head.lookup())
        span = self._tracer.start_span(
            self._function,
            context=parent,
            kind=self._trace.SpanKind.SERVER,
            attributes={
                "http.request.method": request.method,
                "url.path": request.path,
                "faas.name": self._function,
                "faas.trigger": "http",
                "faas.invocation_id": event.request_id,
                "http.request.body.size": len(request.body),
            },
        )
        event.trace_id = "%032x" % span.get_span_context().trace_id
        return Span(span, self._trace, self._propagator)


def create_tracer(function: str, env: Dict[str, str], log: Log) -> Optional[Tracer]:
    """Set up OpenTelemetry and return a tracer; None if no variable asks for one.

    The variables are those of the function, which are set in this process, and of the processor.
    """
    for name, value in env.items():
        if name.startswith("OTEL_"):
            os.environ[name] = value
    variables = [name for name in os.environ if name.startswith("OTEL_")]
    if not variables or os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return None
    try:
        propagate = import_module("opentelemetry.propagate")
        trace = import_module("opentelemetry.trace")
        # opentelemetry-instrument may have set a provider.
        if isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            trace.set_tracer_provider(_create_provider(function))
    except ImportError as problem:
        log.warn("%s is set, but there are no spans: %s" % (min(variables), problem))
        return None
    except Exception as problem:  # noqa: BLE001 - a broken exporter must not stop the function
        log.warn("OpenTelemetry cannot be set up, so there are no spans: %s" % problem)
        return None
    return Tracer(trace, propagate, function)


def _create_provider(function: str) -> Any:
    """Return the SDK's provider with the exporters of OTEL_TRACES_EXPORTER."""
    sdk = import_module("opentelemetry.sdk.trace")
    export = import_module("opentelemetry.sdk.trace.export")
    points = import_module("importlib.metadata").entry_points()
    group = "opentelemetry_traces_exporter"
    # Before Python 3.10 they are a dictionary.
    exporters = points.select(group=group) if hasattr(points, "select") else points.get(group, ())
    os.environ.setdefault("OTEL_SERVICE_NAME", function)
    provider = sdk.TracerProvider()
    for name in map(str.strip, os.environ.get("OTEL_TRACES_EXPORTER", "otlp").split(",")):
        if name in ("", "none"):
            continue
        exporter = next((point for point in exporters if point.name == name), None)
        if exporter is None:
            raise LookupError("there is no exporter %s" % name)
        provider.add_span_processor(export.BatchSpanProcessor(exporter.load()()))
    return provider
