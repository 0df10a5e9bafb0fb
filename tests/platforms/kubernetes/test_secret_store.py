"""Values of secret variables are in a Secret, and in no other object of the cluster."""

from __future__ import annotations

import base64
import json

import pytest
from msgspec.structs import replace

from fnbuild.cli.listing import function_object
from fnbuild.deploy.exports import export_configuration
from fnbuild.errors import ConflictError, ForbiddenError, NotReadyError
from fnbuild.function.secrets import mask_variables
from fnbuild.function.types import EnvVar, Function
from fnbuild.platforms import Artifact
from fnbuild.platforms.kubeclient import kinds
from fnbuild.platforms.kubeclient.secret_store import SecretStore
from tests.cluster import create, invoke
from tests.engine import until
from tests.platforms.kubernetes.author import Author, function_of
from tests.secretnames import MARKERS, PLAIN

pytestmark = pytest.mark.system

PLAIN_KINDS = (
    kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD, kinds.CONFIG_MAP, kinds.SERVICE,
    kinds.ENDPOINTS, kinds.EVENT, kinds.HPA_V1, kinds.INGRESS, kinds.CRON_JOB_V1BETA1,
)  # fmt: skip


def declared(namespace: str, image: str, word: str, **env: str) -> Function:
    """Return a function that answers with its variable WORD, which is declared to be a secret."""
    function = function_of(namespace, "greeter", image, env={"WORD": word} | env)
    metadata = replace(function.metadata, annotations={"fnbuild.io/secret-env": "WORD"})
    return replace(function, metadata=metadata)


def deploy(author: Author, image: str, word: str, **env: str) -> None:
    function = declared(author.namespace, image, word, **env)
    artifact = Artifact("image", image, "", pinned=image)
    author.platform.apply(author.platform.plan(function, artifact), author.progress.append)


def objects_without_secrets(author: Author) -> str:
    """Return all objects of the namespace except Secrets, as JSON."""
    cluster = author.platform.cluster
    return json.dumps([cluster.list(kind, author.namespace) for kind in PLAIN_KINDS])


def secret(author: Author) -> dict[str, str]:
    """Return the values of the function's Secret by key."""
    live_object = author.platform.cluster.get(kinds.SECRET, author.namespace, "nuclio-greeter.env")
    data = (live_object or {}).get("data") or {}
    return {
        key: base64.b64decode(text).decode() for key, text in data.items() if key != "digest-key"
    }


def answer(author: Author) -> str:
    return invoke(author.deployment().external_urls[0])


def test_only_the_secret_has_the_values(author: Author, image: str) -> None:
    deploy(author, image, "marker-of-word", **MARKERS, **PLAIN)
    assert answer(author) == "marker-of-word"
    text_of_objects = objects_without_secrets(author)
    assert not [
        value for value in (*MARKERS.values(), "marker-of-word") if f'"{value}"' in text_of_objects
    ]
    assert not [value for value in MARKERS.values() if value in text_of_objects]
    assert all(value in text_of_objects for value in PLAIN.values())
    assert sorted(secret(author).values()) == sorted([*MARKERS.values(), "marker-of-word"])
    assert not [value for value in MARKERS.values() if value in str(author.progress)]

    deployment = author.deployment()
    texts = [
        str(function_object(deployment)),
        str(mask_variables(export_configuration(deployment.function), secrets_only=True)),
        str(author.platform.plan(
            declared(author.namespace, image, "marker-of-word", **MARKERS, **PLAIN),
            Artifact("image", image, "", pinned=image),
        )),
    ]  # fmt: skip
    for text in texts[:2]:
        assert not [value for value in MARKERS.values() if value in text]
        assert "nuclio-greeter.env" not in text
        assert "[redacted]" in text
    complete = author.platform.function_with_secrets(deployment)
    values = {variable.name: variable.value for variable in complete.spec.env}
    assert values == MARKERS | PLAIN | {"WORD": "marker-of-word"}

    # A deploy without changes changes nothing; a delete removes the Secret.
    plan = author.platform.plan(
        declared(author.namespace, image, "marker-of-word", **MARKERS, **PLAIN),
        Artifact("image", image, "", pinned=image),
    )
    assert plan.effective_changes == ()
    assert author.platform.delete(author.namespace, "greeter")
    assert secret(author) == {}


def test_a_changed_value_restarts_pods_and_is_rolled_back(author: Author, image: str) -> None:
    deploy(author, image, "first-value")
    check_portable_manifests(author, image)
    pods = author.platform.replica_names(author.namespace, "greeter")
    deploy(author, image, "second-value")
    assert answer(author) == "second-value"
    assert set(author.platform.replica_names(author.namespace, "greeter")) - set(pods)
    author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert answer(author) == "first-value"
    assert sorted(secret(author).values()) == ["first-value", "second-value"]
    with pytest.raises(NotReadyError):
        deploy(author, image, "third-value", FAULT="raise")
    assert answer(author) == "first-value"
    assert "third-value" not in objects_without_secrets(author)


def test_values_of_earlier_versions_are_moved_to_the_secret(
    author: Author, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SecretStore, "with_references", lambda _, config: config)
        deploy(author, image, "legacy-one", API_KEY="legacy-key-one")
        deploy(author, image, "legacy-two", API_KEY="legacy-key-two")
    assert "legacy-key-one" in objects_without_secrets(author)
    assert secret(author) == {}
    deploy(author, image, "legacy-two", API_KEY="legacy-key-two")
    assert answer(author) == "legacy-two"

    def kinds_with_values() -> list[str]:
        """Return the kinds that still have a value. Terminating pods have them to the end."""
        return [
            kind.name
            for kind in PLAIN_KINDS
            if any(
                value in json.dumps(author.platform.cluster.list(kind, author.namespace))
                for value in ("legacy-one", "legacy-key-one", "legacy-key-two")
            )
        ]

    assert set(kinds_with_values()) <= {"Pod"}
    until("the end of the old pods", lambda: not kinds_with_values())
    author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert answer(author) == "legacy-one"


def test_references_of_the_user_are_kept(author: Author, image: str) -> None:
    metadata = {"name": "mine", "namespace": author.namespace}
    create(author.platform.cluster, kinds.SECRET, metadata, stringData={"word": "from-mine"})
    reference = {"secretKeyRef": {"name": "mine", "key": "word"}}
    variable = EnvVar(name="WORD", value_from=reference)
    function = function_of(author.namespace, "greeter", image)
    function = replace(function, spec=replace(function.spec, env=[variable]))
    artifact = Artifact("image", image, "", pinned=image)
    author.platform.apply(author.platform.plan(function, artifact), author.progress.append)
    assert answer(author) == "from-mine"
    assert secret(author) == {}
    assert author.deployment().function.spec.env == [variable]


def test_a_variable_may_become_plain_again(author: Author, image: str) -> None:
    author.run(image, env={"WORD": "plain-one"})
    deploy(author, image, "secret-two")
    plain = author.plan(image, env={"WORD": "plain-three"})
    assert "plain-three" in str(
        [step for step in plain.effective_changes if "deployment" in step.target]
    )
    author.platform.apply(plain, author.progress.append)
    assert answer(author) == "plain-three"
    # No pod ran with an intermediate template.
    replica_sets = author.platform.cluster.list(kinds.REPLICA_SET, author.namespace)
    assert len(replica_sets) == 3
    assert not author.live_deployment()["spec"].get("paused")
    author.platform.rollback(author.namespace, "greeter", 2, author.progress.append)
    author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert answer(author) == "plain-one"


def test_a_volume_of_another_kind_replaces_a_volume(author: Author, image: str) -> None:
    metadata = {"name": "mine", "namespace": author.namespace}
    create(author.platform.cluster, kinds.SECRET, metadata, stringData={"word": "from-mine"})
    create(author.platform.cluster, kinds.CONFIG_MAP, metadata, data={"word": "from-mine"})
    mount = {"name": "extra", "mountPath": "/extra"}
    for source in ({"secret": {"secretName": "mine"}}, {"configMap": {"name": "mine"}}):
        author.run(image, volumes=[{"volume": {"name": "extra", **source}, "volumeMount": mount}])
        pod = author.live_deployment()["spec"]["template"]["spec"]
        volume = next(item for item in pod["volumes"] if item["name"] == "extra")
        assert set(volume) == {"name", *source}


def test_a_foreign_secret_is_a_conflict(author: Author, image: str) -> None:
    metadata = {"name": "nuclio-greeter.env", "namespace": author.namespace}
    create(author.platform.cluster, kinds.SECRET, metadata)
    with pytest.raises(ConflictError, match=r"nuclio-greeter\.env"):
        deploy(author, image, "value")


def test_an_import_has_no_values_in_its_record(author: Author, image: str) -> None:
    function = declared(author.namespace, image, "imported-value")
    spec = replace(function.spec, image_pull_policy="IfNotPresent")
    author.platform.store_imported(replace(function, spec=spec))
    assert "imported-value" not in objects_without_secrets(author)
    assert list(secret(author).values()) == ["imported-value"]
    author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert answer(author) == "imported-value"


def check_portable_manifests(author: Author, image: str) -> None:
    """Check that manifests for git refer to a secret of the user."""
    function = author.deployment().function
    plan = author.platform.plan(function, Artifact("image", image, "", pinned=image))
    assert "nuclio-greeter.env" not in str(plan.manifests)
    assert "'secretKeyRef': {'name': 'nuclio-greeter', 'key': 'WORD'}" in str(plan.manifests)
    assert "first-value" not in str(plan)


def test_missing_permission_to_write_secrets_loses_no_values(
    author: Author, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SecretStore, "with_references", lambda _, config: config)
        deploy(author, image, "legacy-one")

    def forbidden(*_: object) -> None:
        raise ForbiddenError("may not create secrets")

    with monkeypatch.context() as patch:
        patch.setattr(SecretStore, "_write", forbidden)
        with pytest.raises(ForbiddenError):
            deploy(author, image, "two")
    author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert answer(author) == "legacy-one"
