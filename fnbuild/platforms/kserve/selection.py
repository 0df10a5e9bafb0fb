"""The choice of a serving runtime for a model, with the rules of KServe and their explanation.

KServe looks in the namespace before the cluster. Without a runtime's name it takes the enabled
runtimes that select the format by themselves and speak the protocol, sorted by protocol, age, name
and priority; the order of equal ones is KServe's.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

from fnbuild.errors import PreconditionError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient.objects import KubeObject

DEFAULT_PROTOCOL = "v1"
"""The protocol of a model that names none: a runtime without it is not selected."""

_PROTOCOL_ORDER = {"v1": 1, "v2": 2, "grpc-v1": 3, "grpc-v2": 4}
_NO_PROTOCOL = 5
_MAX_LISTED = 12


@dataclass(frozen=True, slots=True)
class ModelRequest:
    """The properties of a model on which the choice depends; "" for those that are not set."""

    format: str
    version: str = ""
    protocol: str = ""
    runtime: str = ""

    @property
    def description(self) -> str:
        """The format with its version, as in `sklearn:1`."""
        return f"{self.format}:{self.version}" if self.version else self.format


class Runtime(KubeObject):
    """A ServingRuntime or a ClusterServingRuntime."""

    @property
    def is_cluster_wide(self) -> bool:
        return self.get("kind") == "ClusterServingRuntime"

    @property
    def description(self) -> str:
        """The kind and the name, as in `ServingRuntime sklearn-py38`."""
        return f"{self.get('kind')} {self.name}"

    @property
    def is_disabled(self) -> bool:
        return bool(self.spec.get("disabled"))

    @property
    def is_multi_model(self) -> bool:
        return bool(self.spec.get("multiModel"))

    @property
    def has_workers(self) -> bool:
        """True if it spreads a model over several nodes."""
        return bool(self.spec.get("workerSpec"))

    @property
    def formats(self) -> list[Raw]:
        return [dict(item) for item in self.spec.items_of("supportedModelFormats")]

    @property
    def protocols(self) -> tuple[str, ...]:
        """The protocols; none means any."""
        return tuple(map(str, self.spec.get("protocolVersions") or ()))

    def speaks(self, protocol: str) -> bool:
        return not self.protocols or protocol in self.protocols

    @property
    def lowest_protocol(self) -> str:
        """The protocol that KServe writes into a model that names none; "" for any."""
        return min(self.protocols, key=_protocol_rank, default="")

    def matching_formats(self, request: ModelRequest) -> list[Raw]:
        """Return the entries for the format: texts are compared, so "2" does not match "2.0"."""
        return [
            item
            for item in self.formats
            if item.get("name") == request.format
            and (not request.version or str(item.get("version") or "") == request.version)
        ]

    def priority(self, request: ModelRequest) -> int | None:
        """Return the priority for the format."""
        priorities = (item.get("priority") for item in self.matching_formats(request))
        return next((int(number) for number in priorities if number is not None), None)


class RuntimeNotFoundError(PreconditionError):
    """No runtime has the requested name, or takes the format by itself."""


@dataclass(frozen=True, slots=True)
class Selection:
    """The runtime that KServe takes, and the reason in a sentence."""

    runtime: Runtime
    explanation: str


def select_runtime(
    request: ModelRequest, namespaced: Iterable[Raw], cluster_wide: Iterable[Raw]
) -> Selection:
    """Return the runtime for a model. Raises `PreconditionError` if KServe would find none."""
    runtimes = _Runtimes(list(map(Runtime, namespaced)), list(map(Runtime, cluster_wide)))
    return runtimes.by_name(request) if request.runtime else runtimes.by_format(request)


@dataclass(frozen=True)
class _Runtimes:
    """The runtimes of a namespace and those of the cluster."""

    namespaced: list[Runtime]
    cluster_wide: list[Runtime]

    @cached_property
    def all(self) -> list[Runtime]:
        return [*self.namespaced, *self.cluster_wide]

    def by_name(self, request: ModelRequest) -> Selection:
        runtime = next((item for item in self.all if item.name == request.runtime), None)
        place = "model.runtime"
        if runtime is None:
            raise RuntimeNotFoundError(
                f"{place}: there is no ServingRuntime or ClusterServingRuntime {request.runtime}"
                " (KServe: RuntimeNotRecognized)",
                hint=self._inventory(),
            )
        if runtime.is_disabled:
            raise PreconditionError(
                f"{place}: {runtime.description} is disabled (KServe: RuntimeDisabled)",
                hint="`spec.disabled: false` enables it; without `runtime` another one is selected",
            )
        if not runtime.matching_formats(request):
            raise PreconditionError(
                f"{place}: {runtime.description} does not support the format"
                f" {request.description}: it has {_format_list(runtime)} (KServe:"
                " NoSupportingRuntime)",
                hint="add the format to its supportedModelFormats, or name a format that it has",
            )
        if request.protocol and not runtime.speaks(request.protocol):
            raise PreconditionError(
                f"{place}: {runtime.description} does not speak {request.protocol}: it has"
                f" {', '.join(runtime.protocols)} (KServe: NoSupportingRuntime)",
                hint=f"`protocolVersion: {runtime.lowest_protocol}`",
            )
        shadowed = [item for item in self.cluster_wide if item.name == request.runtime]
        why = "it is named by model.runtime"
        if shadowed and not runtime.is_cluster_wide:
            why += "; the namespace goes before the ClusterServingRuntime of the same name"
        return Selection(runtime, f"{runtime.description} serves the model: {why}")

    def by_format(self, request: ModelRequest) -> Selection:
        for candidates in (
            _sorted_candidates(self.namespaced, request),
            _sorted_candidates(self.cluster_wide, request),
        ):
            if candidates:
                return _explained(candidates, request)
        raise RuntimeNotFoundError(
            f"no serving runtime takes the format {request.description} with protocol"
            f" {request.protocol or DEFAULT_PROTOCOL} by itself (KServe: NoSupportingRuntime)",
            hint=self._remedy(request),
        )

    def _remedy(self, request: ModelRequest) -> str:
        """Return what is missing, by the runtimes that come closest."""
        close = [item for item in self.all if item.matching_formats(request)]
        if not close:
            return self._other_versions(request) or self._inventory()
        reasons = [f"{item.description} {_obstacle(item, request)}" for item in close]
        return "; ".join(reasons[:_MAX_LISTED])

    def _other_versions(self, request: ModelRequest) -> str:
        """Return the versions of the format that there are, if the requested one is missing."""
        versions = [
            f"{entry.get('version') or '(none)'} in {item.description}"
            for item in self.all
            for entry in item.formats
            if entry.get("name") == request.format
        ]
        if not versions or not request.version:
            return ""
        return (
            f"versions are compared as text, and the format {request.format} has"
            f" {', '.join(versions[:_MAX_LISTED])}"
        )

    def _inventory(self) -> str:
        """Describe the runtimes of the cluster: clusters do not have the same ones."""
        if not self.all:
            return (
                "this cluster has no serving runtimes: install KServe's, or deploy one of your own"
                " (`servingRuntime` in the settings for kserve)"
            )
        entries = [f"{item.name} ({_format_list(item)})" for item in self.all[:_MAX_LISTED]]
        more = ", …" if len(self.all) > _MAX_LISTED else ""
        return f"there are {', '.join(entries)}{more}"


def _format_list(runtime: Runtime) -> str:
    formats = (ModelRequest(str(item.get("name")), str(item.get("version") or ""))
               for item in runtime.formats)  # fmt: skip
    return " ".join(item.description for item in formats) or "no format"


def _obstacle(runtime: Runtime, request: ModelRequest) -> str:
    """Return the reason why a runtime that has the format is not selected."""
    protocol = request.protocol or DEFAULT_PROTOCOL
    if runtime.is_disabled:
        return "is disabled"
    if not any(item.get("autoSelect") for item in runtime.matching_formats(request)):
        return f"takes it only by name: `runtime: {runtime.name}`"
    if runtime.is_multi_model or runtime.has_workers:
        return "is for several models or several nodes"
    if not runtime.speaks(protocol):
        remedy = f"`protocolVersion: {runtime.lowest_protocol}`"
        return f"speaks {', '.join(runtime.protocols)} only: {remedy}"
    return "does not fit"


def _sorted_candidates(runtimes: Iterable[Runtime], request: ModelRequest) -> list[Runtime]:
    protocol = request.protocol or DEFAULT_PROTOCOL
    candidates = [
        item
        for item in runtimes
        if not (item.is_disabled or item.is_multi_model or item.has_workers)
        and item.speaks(protocol)
        and any(entry.get("autoSelect") for entry in item.matching_formats(request))
    ]
    candidates.sort(key=lambda item: item.name)
    candidates.sort(key=lambda item: item.created, reverse=True)
    candidates.sort(key=_lowest_rank)
    candidates.sort(key=lambda item: _descending(item.priority(request)))
    return candidates


def _lowest_rank(runtime: Runtime) -> int:
    return min(map(_protocol_rank, runtime.protocols), default=_NO_PROTOCOL)


def _protocol_rank(protocol: str) -> int:
    return _PROTOCOL_ORDER.get(protocol, _NO_PROTOCOL)


def _descending(priority: int | None) -> tuple[bool, int]:
    """Return the key that sorts high priorities first, and runtimes without one last."""
    return priority is None, -(priority or 0)


def _explained(candidates: Sequence[Runtime], request: ModelRequest) -> Selection:
    winner, others = candidates[0], candidates[1:]
    reason = f"it takes the format {request.description} by itself"
    if others:
        names = ", ".join(item.name for item in others[:_MAX_LISTED])
        reason += f" and goes before {names}: {_advantage(winner, others[0], request)}"
    scope = "cluster" if winner.is_cluster_wide else "namespace"
    return Selection(winner, f"{winner.description} (of the {scope}) serves the model: {reason}")


def _advantage(winner: Runtime, other: Runtime, request: ModelRequest) -> str:
    """Return the property by which the first of two sorted candidates is the first."""
    priorities = winner.priority(request), other.priority(request)
    if priorities[0] != priorities[1]:
        return f"priority {priorities[0]}" + (f" over {priorities[1]}" if priorities[1] else "")
    if _lowest_rank(winner) != _lowest_rank(other):
        return f"its lowest protocol is {winner.lowest_protocol}"
    if winner.created != other.created:
        return "it is the newest"
    return "its name sorts first"


def runtime_conflicts(manifest: Raw, existing: Iterable[Raw]) -> Iterator[str]:
    """Yield the conflicts for which the webhook refuses a runtime beside others of its scope."""
    runtime = Runtime(manifest)
    for other in map(Runtime, existing):
        if other.name == runtime.name or other.is_disabled or runtime.is_disabled:
            continue
        shared = set(runtime.protocols) & set(other.protocols)
        if runtime.protocols and other.protocols and not shared:
            continue
        for entry in runtime.formats:
            if entry.get("autoSelect") and any(_is_equal(entry, item) for item in other.formats):
                yield (
                    f"{other.description} already selects {entry.get('name')}"
                    f" {entry.get('version') or ''} with the same priority"
                    f" ({entry.get('priority') or 'none'}) and protocol".replace("  ", " ")
                )


def _is_equal(entry: Raw, other: Raw) -> bool:
    keys = ("name", "version", "priority")
    equal = all((entry.get(key) or None) == (other.get(key) or None) for key in keys)
    return equal and bool(other.get("autoSelect"))
