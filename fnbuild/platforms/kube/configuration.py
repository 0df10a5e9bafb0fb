"""The configuration of a function, wherever the cluster has it."""

from __future__ import annotations

import json

from fnbuild.platforms.kube import labels as own
from fnbuild.platforms.kube import records
from fnbuild.platforms.kube.inventory import Known
from fnbuild.spec.reader import from_raw
from fnbuild.spec.types import Function, Metadata, Raw


def function_of(known: Known) -> Function:
    """The configuration that the function has, or would have when it is deployed.

    Raises `ConfigError` for one that cannot be read.
    """
    if (made := known.made) is not None:
        return made.function
    if known.deployment is not None:
        return _of_nuclio(known)
    if (imported := known.imported) is not None:
        return _named(known, imported)
    newest = next(iter(records.revisions(known)), None)
    if newest is not None:
        return newest.function
    wanted = known.wanted
    return unread(known) if wanted is None else _named(known, wanted)


def _of_nuclio(known: Known) -> Function:
    """What Nuclio writes about a function into its Deployment, which is the spec alone
    (pkg/platform/kube/functionres/lazy.go: serializeFunctionJSON).
    """
    about = (known.deployment or {})["metadata"]
    try:
        config = json.loads((about.get("annotations") or {}).get(own.CONFIG, ""))
    except ValueError:
        return unread(known)
    if not isinstance(config, dict):
        return unread(known)
    if "spec" in config:
        return _named(known, config)
    return _named(known, {"metadata": {"labels": {own.PROJECT: known.project}}, "spec": config})


def _named(known: Known, config: Raw) -> Function:
    """A configuration as that of this function, whatever name it was written for."""
    given = config.get("metadata") or {}
    name = {"name": known.key.name, "namespace": known.key.namespace}
    metadata = {**given, **name} if isinstance(given, dict) else given
    return from_raw({**config, "metadata": metadata}, known.key.name)


def unread(known: Known) -> Function:
    """What is known where the configuration cannot be read: the name and the project."""
    name = Metadata(name=known.key.name, namespace=known.key.namespace)
    name.labels[own.PROJECT] = known.project
    return Function(metadata=name)
