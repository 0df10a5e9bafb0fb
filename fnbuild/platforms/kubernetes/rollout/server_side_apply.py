"""Server-side apply of a function's objects.

Up to Kubernetes 1.20, the API server removes fields that are missing in a manifest one by one and
leaves the empty mapping around them. A variable that changes from `valueFrom` to `value`, or a
volume that changes its type, is then rejected as invalid. List entries, however, are removed as a
whole. In such a case two applies are needed: the first one removes these entries, while the
Deployment is paused and starts no pods, and the second one adds them again.
"""

from __future__ import annotations

from collections.abc import Iterator
from copy import deepcopy
from typing import Any

from fnbuild.errors import InputError
from fnbuild.function.types import Raw
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster

_CONTAINERS = ("containers", "initContainers")

ListLocation = tuple[str, str, str]
"""The list of containers ("" for the pod), the container's name, and the list in it."""

Entries = set[tuple[ListLocation, str]]


def apply_manifest(cluster: Cluster, manifest: Raw, *, force: bool, dry_run: bool = False) -> Raw:
    """Apply a manifest and return the resulting object. Raises the errors of `Cluster.apply`."""
    try:
        return cluster.apply(manifest, dry_run=dry_run, force=force)
    except InputError:
        entries = _replaced_entries(cluster, manifest)
        if not entries:
            raise
    reduced = _without_entries(manifest, entries)
    if dry_run:
        return _with_entries(cluster.apply(reduced, dry_run=True, force=force), manifest, entries)
    paused = {**reduced, "spec": {**reduced["spec"], "paused": True}}
    cluster.apply(paused, force=force)
    return cluster.apply(manifest, force=force)


def _replaced_entries(cluster: Cluster, manifest: Raw) -> Entries:
    """Return the entries of which the live Deployment has a mapping that the manifest lacks."""
    if manifest["kind"] != kinds.DEPLOYMENT.name:
        return set()
    metadata = manifest["metadata"]
    live = cluster.get(kinds.DEPLOYMENT, metadata["namespace"], metadata["name"])
    if live is None:
        return set()
    live_entries = {location: _by_name(entries) for location, entries in _named_lists(live)}
    replaced: Entries = set()
    for location, entries in _named_lists(manifest):
        for name, entry in _by_name(entries).items():
            if _lacks_mapping(entry, live_entries.get(location, {}).get(name, {})):
                replaced.add((location, name))
    return replaced


def _named_lists(deployment: Raw) -> Iterator[tuple[ListLocation, list[Raw]]]:
    pod = deployment["spec"]["template"]["spec"]
    yield ("", "", "volumes"), pod.get("volumes") or []
    for containers in _CONTAINERS:
        for container in pod.get(containers) or []:
            for part in ("env", "volumeMounts"):
                yield (containers, container["name"], part), container.get(part) or []


def _by_name(entries: list[Raw]) -> dict[str, Raw]:
    return {str(entry["name"]): entry for entry in entries}


def _lacks_mapping(wanted: Any, live: Any) -> bool:
    """Return True if `live` has a mapping, at any depth, that `wanted` does not have."""
    return any(
        not isinstance(wanted.get(key), dict) or _lacks_mapping(wanted[key], value)
        for key, value in live.items()
        if isinstance(value, dict)
    )


def _without_entries(manifest: Raw, entries: Entries) -> Raw:
    """Return the manifest without these entries, and without the mounts of such volumes."""
    reduced = deepcopy(manifest)
    for location, entry_list in _named_lists(reduced):
        entry_list[:] = [entry for entry in entry_list if not _is_among(entries, location, entry)]
    return reduced


def _with_entries(live: Raw, manifest: Raw, entries: Entries) -> Raw:
    """Return the object with these entries of the manifest: the result of the second apply."""
    restored, wanted = deepcopy(live), dict(_named_lists(manifest))
    for location, entry_list in _named_lists(restored):
        entry_list += [
            entry for entry in wanted.get(location, []) if _is_among(entries, location, entry)
        ]
    return restored


def _is_among(entries: Entries, location: ListLocation, entry: Raw) -> bool:
    if location[2] == "volumeMounts":
        location = ("", "", "volumes")
    return (location, str(entry["name"])) in entries
