"""The change counter of the process platform."""

from __future__ import annotations

from fnbuild.function.types import Function, Metadata
from fnbuild.platforms.process import ProcessPlatform


def test_changes_by_another_process_are_noticed(platform: ProcessPlatform, namespace: str) -> None:
    counter = platform.change_counter()
    assert platform.deployments(namespace) == []
    assert platform.change_counter() == counter, "reading does not count as a change"
    other = ProcessPlatform()
    other.store_imported(Function(metadata=Metadata(name="f", namespace=namespace)))
    added = platform.change_counter()
    assert added != counter
    assert other.delete(namespace, "f")
    assert platform.change_counter() != added


def test_an_unreadable_function_does_not_hide_others(
    platform: ProcessPlatform, namespace: str
) -> None:
    for name in ("good", "unreadable"):
        platform.store_imported(Function(metadata=Metadata(name=name, namespace=namespace)))
    with platform._watched_store.transaction() as connection:
        unreadable = '{"metadata": {"name": "unreadable"}, "spec": {"replicas": "many"}}'
        connection.execute(
            "UPDATE functions SET config = ? WHERE name = 'unreadable'", (unreadable,)
        )
    deployments = {deployment.name: deployment for deployment in platform.deployments(namespace)}
    assert deployments["good"].state == "imported"
    assert deployments["unreadable"].state == "error"
    assert "replicas" in deployments["unreadable"].message
