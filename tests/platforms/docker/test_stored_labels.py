"""Labels of containers and volumes keep their names and formats across releases."""

from __future__ import annotations

import json

from fnbuild.platforms.docker.inventory import _group_by_function
from fnbuild.platforms.docker.labels import decode_import, decode_revision

CONFIG = {
    "metadata": {
        "name": "greeter",
        "namespace": "nuclio",
        "labels": {"nuclio.io/project-name": "cvat"},
        "annotations": {"type": "detector"},
    },
    "spec": {"handler": "main:handler", "runtime": "python:3.11", "image": "greeter:latest"},
}
REVISION = {
    "fnbuild.io/revision": "7",
    "fnbuild.io/created": "2025-03-01T10:00:00.000Z",
    "fnbuild.io/digest": "abc",
    "fnbuild.io/image": "greeter:latest",
    "fnbuild.io/image-id": "sha256:123",
    "fnbuild.io/function": json.dumps(CONFIG),
    "fnbuild.io/source-revision": "5",
    "fnbuild.io/note": "rollback to revision 5",
    "fnbuild.io/port": "20123",
}
CONTAINER = {
    **REVISION,
    "nuclio.io/platform": "local",
    "nuclio.io/namespace": "nuclio",
    "nuclio.io/function-name": "greeter",
    "nuclio.io/function-spec": json.dumps(CONFIG["spec"]),
    "nuclio.io/annotations": '{"type": "detector"}',
    "nuclio.io/project-name": "cvat",
    "fnbuild.io/owner": "host:/data",
}
RECORD = {"fnbuild.io/namespace": "nuclio", "fnbuild.io/name": "greeter"}
LEASE = {
    "number": 3,
    "token": "0011223344556677",
    "holder": {
        "owner": "host:/data",
        "process": 12,
        "started": "boot 4026531836 100",
        "participle": "deployed",
        "since": 100.0,
    },
    "stage": "switching",
    "lifetime": 60.0,
}


def test_a_container_of_another_release_is_read() -> None:
    revision = decode_revision(CONTAINER)
    assert revision is not None
    assert tuple(revision.key) == ("nuclio", "greeter")
    assert (revision.number, revision.source, revision.port) == (7, 5, 20123)
    assert (revision.image, revision.image_id) == ("greeter:latest", "sha256:123")
    assert (revision.digest, revision.note) == ("abc", "rollback to revision 5")
    assert revision.function.spec.handler == "main:handler"
    assert revision.failed is False
    assert revision.container_labels() == {
        name: text for name, text in CONTAINER.items() if name != "fnbuild.io/owner"
    }


def test_a_record_of_another_release_is_read() -> None:
    labels = {
        **REVISION,
        **RECORD,
        "fnbuild.io/record": "revision",
        "fnbuild.io/state": "error",
        "fnbuild.io/failure": "ModuleNotFoundError: No module named 'torch'",
    }
    revision = decode_revision(labels)
    assert revision is not None
    assert (revision.failed, revision.failure.partition(":")[0]) == (True, "ModuleNotFoundError")
    assert revision.record_labels() == labels


def test_objects_of_another_release_are_grouped() -> None:
    imported = {**RECORD, "fnbuild.io/record": "imported", "fnbuild.io/function": "{}"}
    lease = {**RECORD, "fnbuild.io/record": "lease", "fnbuild.io/lease": json.dumps(LEASE)}
    created = "2025-03-01T10:00:00Z"
    containers = [
        {"Id": "1", "Names": ["/nuclio-nuclio-greeter"], "State": "running", "Labels": CONTAINER},
        {
            "Id": "2",
            "Names": ["/nuclio-nuclio-greeter.fnbuild-candidate"],
            "State": "running",
            "Labels": {**CONTAINER, "fnbuild.io/candidate": "true"},
        },
    ]
    volumes = [
        {"Labels": {**REVISION, **RECORD, "fnbuild.io/record": "revision"}, "CreatedAt": created},
        {"Labels": imported, "CreatedAt": created},
        {"Labels": lease, "CreatedAt": created},
    ]
    [objects] = _group_by_function(containers, volumes)
    assert objects.container is not None
    assert objects.container.id == "1"
    assert [container.id for container in objects.transient_containers] == ["2"]
    assert [revision.number for revision in objects.records] == [7]
    assert objects.imported == decode_import(imported) == {}
    assert objects.lease is not None
    assert (objects.lease.number, objects.lease.stage) == (3, "switching")
    assert objects.lease.holder.to_dict() == LEASE["holder"]
