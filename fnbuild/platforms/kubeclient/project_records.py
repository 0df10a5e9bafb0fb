"""Records of projects in ConfigMaps, which the platforms of a cluster share."""

from __future__ import annotations

import json

from fnbuild.errors import ConflictError
from fnbuild.function.types import Raw
from fnbuild.names import DEFAULT_PROJECT, PROJECT_LABEL
from fnbuild.platforms import Project
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.cluster import Cluster
from fnbuild.platforms.kubeclient.ownership import MANAGED_BY, MANAGER, RECORD
from fnbuild.platforms.projects import decode_string_map, with_default_project

_PROJECTS_SELECTOR = f"{RECORD}=project"
# No object of a function has a dot in its name.
_PROJECT_PREFIX = "nuclio-project."


def list_projects(cluster: Cluster, namespace: str) -> list[Project]:
    """Return the projects of a namespace, by name, including the implicit `default`."""
    config_maps = cluster.list(kinds.CONFIG_MAP, namespace, labels=_PROJECTS_SELECTOR)
    return with_default_project(namespace, map(_decode_project, config_maps))


def _decode_project(config_map: Raw) -> Project:
    metadata, data = config_map["metadata"], config_map.get("data") or {}
    return Project(
        metadata["name"].removeprefix(_PROJECT_PREFIX),
        metadata["namespace"],
        data.get("description", ""),
        data.get("owner", ""),
        decode_string_map(data.get("labels")),
        decode_string_map(data.get("annotations")),
    )


def create_project(cluster: Cluster, project: Project) -> bool:
    """Record a project; return False if it already exists."""
    if (
        project.name == DEFAULT_PROJECT
        or _get_project(cluster, project.namespace, project.name) is not None
    ):
        return False
    try:
        cluster.create(_project_manifest(project))
    except ConflictError:
        if _get_project(cluster, project.namespace, project.name) is None:
            raise ConflictError(
                f"there is a ConfigMap {_PROJECT_PREFIX}{project.name} already, which is no"
                " project's",
                hint="give the project another name",
            ) from None
        return False
    return True


def update_project(cluster: Cluster, project: Project) -> bool:
    """Update the record of a project; return False if there is none."""
    config_map = _get_project(cluster, project.namespace, project.name)
    if config_map is not None:
        cluster.replace({**config_map, "data": _project_manifest(project)["data"]})
    elif project.name == DEFAULT_PROJECT:  # there without being recorded
        cluster.create(_project_manifest(project))
    return config_map is not None or project.name == DEFAULT_PROJECT


def delete_project(cluster: Cluster, namespace: str, name: str) -> bool:
    if _get_project(cluster, namespace, name) is None:
        return False
    return cluster.delete(kinds.CONFIG_MAP, namespace, _PROJECT_PREFIX + name)


def _project_manifest(project: Project) -> Raw:
    metadata = {
        "name": _PROJECT_PREFIX + project.name,
        "namespace": project.namespace,
        "labels": {
            MANAGED_BY: MANAGER,
            RECORD: "project",
            PROJECT_LABEL: project.name,
        },
    }
    # The labels of a project need not be valid labels of Kubernetes.
    data = {
        "description": project.description,
        "owner": project.owner,
        "labels": json.dumps(project.labels),
        "annotations": json.dumps(project.annotations),
    }
    return kinds.CONFIG_MAP.manifest(metadata, data=data)


def _get_project(cluster: Cluster, namespace: str, name: str) -> Raw | None:
    config_map = cluster.get(kinds.CONFIG_MAP, namespace, _PROJECT_PREFIX + name)
    project_labels = ((config_map or {}).get("metadata") or {}).get("labels") or {}
    return config_map if project_labels.get(RECORD) == "project" else None
