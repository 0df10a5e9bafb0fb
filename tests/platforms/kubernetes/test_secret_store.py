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
from fnbuild.platforms.kubernetes.secret_store import SecretStore
from tests.cluster import ask, create
from tests.engine import until
from tests.platforms.kubernetes.author import Author, function_of
from tests.secretnames import MARKERS, PLAIN

pytestmark = pytest.mark.system

PLAIN_KINDS = (
    kinds.DEPLOYMENT, kinds.REPLICA_SET, kinds.POD, kinds.CONFIG_MAP, kinds.SERVICE,
    kinds.ENDPOINTS, kinds.EVENT, kinds.HPA_V1, kinds.INGRESS, kinds.CRON_JOB_V1BETA1,
)  # fmt: skip


def declared(namespace: str, image: str, word: str, **env: str) -> Function:
    """A function whose WORD, which it answers with, is declared to be a secret."""
    function = function_of(namespace, "greeter", image, env={"WORD": word} | env)
    metadata = replace(function.metadata, annotations={"fnbuild.io/secret-env": "WORD"})
    return replace(function, metadata=metadata)


def deploy(author: Author, image: str, word: str, **env: str) -> None:
    function = declared(author.namespace, image, word, **env)
    artifact = Artifact("image", image, "", pinned=image)
    author.platform.apply(author.platform.plan(function, artifact), author.progress.append)


def everything(author: Author) -> str:
    """All objects of the namespace but Secrets, as JSON."""
    cluster = author.platform.cluster
    return json.dumps([cluster.list(kind, author.namespace) for kind in PLAIN_KINDS])


def secret(author: Author) -> dict[str, str]:
    """The values of the function's Secret by key."""
    live_object = author.platform.cluster.get(kinds.SECRET, author.namespace, "nuclio-greeter.env")
    data = (live_object or {}).get("data") or {}
    return {
        key: base64.b64decode(text).decode() for key, text in data.items() if key != "digest-key"
    }


def answer(author: Author) -> str:
    return ask(author.shown().external_urls[0])


def test_no_other_object_has_them(author: Author, image: str) -> None:
    deploy(author, image, "marker-of-word", **MARKERS, **PLAIN)
    assert answer(author) == "marker-of-word"
    found = everything(author)
    assert not [one for one in (*MARKERS.values(), "marker-of-word") if f'"{one}"' in found]
    assert not [one for one in MARKERS.values() if one in found]
    assert all(one in found for one in PLAIN.values())
    assert sorted(secret(author).values()) == sorted([*MARKERS.values(), "marker-of-word"])
    assert not [one for one in MARKERS.values() if one in str(author.progress)]

    deployment = author.shown()
    texts = [
        str(function_object(deployment)),
        str(mask_variables(export_configuration(deployment.function), secrets_only=True)),
        str(author.platform.plan(
            declared(author.namespace, image, "marker-of-word", **MARKERS, **PLAIN),
            Artifact("image", image, "", pinned=image),
        )),
    ]  # fmt: skip
    for text in texts[:2]:
        assert not [one for one in MARKERS.values() if one in text]
        assert "nuclio-greeter.env" not in text
        assert "[redacted]" in text
    whole = author.platform.with_secrets(deployment)
    values = {one.name: one.value for one in whole.spec.env}
    assert values == MARKERS | PLAIN | {"WORD": "marker-of-word"}

    # The same again changes nothing; the Secret goes with the function.
    plan = author.platform.plan(
        declared(author.namespace, image, "marker-of-word", **MARKERS, **PLAIN),
        Artifact("image", image, "", pinned=image),
    )
    assert plan.effective_changes == ()
    assert author.platform.delete(author.namespace, "greeter")
    assert secret(author) == {}


def test_another_value_restarts_and_a_rollback_brings_the_old_one(
    author: Author, image: str
) -> None:
    deploy(author, image, "first-value")
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
    assert "third-value" not in everything(author)


def test_what_an_earlier_version_deployed_moves(
    author: Author, image: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(SecretStore, "with_references", lambda _, config: config)
        deploy(author, image, "legacy-one", API_KEY="legacy-key-one")
        deploy(author, image, "legacy-two", API_KEY="legacy-key-two")
    assert "legacy-key-one" in everything(author)
    assert secret(author) == {}
    deploy(author, image, "legacy-two", API_KEY="legacy-key-two")
    assert answer(author) == "legacy-two"

    def left() -> list[str]:
        """The kinds that still have a value. Pods that are ending have them to the last."""
        return [
            kind.name
            for kind in PLAIN_KINDS
            if any(
                value in json.dumps(author.platform.cluster.list(kind, author.namespace))
                for value in ("legacy-one", "legacy-key-one", "legacy-key-two")
            )
        ]

    assert set(left()) <= {"Pod"}
    until("the end of the old pods", lambda: not left())
    author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert answer(author) == "legacy-one"


def test_references_of_the_users_own_stay(author: Author, image: str) -> None:
    about = {"name": "mine", "namespace": author.namespace}
    create(author.platform.cluster, kinds.SECRET, about, stringData={"word": "from-mine"})
    reference = {"secretKeyRef": {"name": "mine", "key": "word"}}
    variable = EnvVar(name="WORD", value_from=reference)
    function = function_of(author.namespace, "greeter", image)
    function = replace(function, spec=replace(function.spec, env=[variable]))
    artifact = Artifact("image", image, "", pinned=image)
    author.platform.apply(author.platform.plan(function, artifact), author.progress.append)
    assert answer(author) == "from-mine"
    assert secret(author) == {}
    assert author.shown().function.spec.env == [variable]


def test_a_variable_is_a_secret_no_longer(author: Author, image: str) -> None:
    author.run(image, env={"WORD": "plain-one"})
    deploy(author, image, "secret-two")
    plain = author.planned(image, env={"WORD": "plain-three"})
    assert "plain-three" in str(
        [step for step in plain.effective_changes if "deployment" in step.target]
    )
    author.platform.apply(plain, author.progress.append)
    assert answer(author) == "plain-three"
    # No pod had a template between the two.
    sets = author.platform.cluster.list(kinds.REPLICA_SET, author.namespace)
    assert len(sets) == 3
    assert not author.live()["spec"].get("paused")
    author.platform.rollback(author.namespace, "greeter", 2, author.progress.append)
    author.platform.rollback(author.namespace, "greeter", 1, author.progress.append)
    assert answer(author) == "plain-one"


def test_a_volume_of_another_kind_takes_the_place_of_one(author: Author, image: str) -> None:
    about = {"name": "mine", "namespace": author.namespace}
    create(author.platform.cluster, kinds.SECRET, about, stringData={"word": "from-mine"})
    create(author.platform.cluster, kinds.CONFIG_MAP, about, data={"word": "from-mine"})
    mount = {"name": "extra", "mountPath": "/extra"}
    for source in ({"secret": {"secretName": "mine"}}, {"configMap": {"name": "mine"}}):
        author.run(image, volumes=[{"volume": {"name": "extra", **source}, "volumeMount": mount}])
        pod = author.live()["spec"]["template"]["spec"]
        volume = next(one for one in pod["volumes"] if one["name"] == "extra")
        assert set(volume) == {"name", *source}


def test_a_secret_of_somebody_else_is_left_alone(author: Author, image: str) -> None:
    about = {"name": "nuclio-greeter.env", "namespace": author.namespace}
    create(author.platform.cluster, kinds.SECRET, about)
    with pytest.raises(ConflictError, match=r"nuclio-greeter\.env"):
        deploy(author, image, "value")


def test_an_import_has_none_in_its_record(author: Author, image: str) -> None:
    function = declared(author.namespace, image, "imported-value")
    spec = replace(function.spec, image_pull_policy="IfNotPresent")
    author.platform.store_imported(replace(function, spec=spec))
    assert "imported-value" not in everything(author)
    assert list(secret(author).values()) == ["imported-value"]
    author.platform.redeploy(author.namespace, "greeter", author.progress.append)
    assert answer(author) == "imported-value"


def test_portable_manifests_name_a_secret_that_somebody_keeps(author: Author, image: str) -> None:
    deploy(author, image, "value-of-word")
    function = author.shown().function
    plan = author.platform.plan(function, Artifact("image", image, "", pinned=image))
    assert "nuclio-greeter.env" not in str(plan.manifests)
    assert "'secretKeyRef': {'name': 'nuclio-greeter', 'key': 'WORD'}" in str(plan.manifests)
    assert "value-of-word" not in str(plan)


def test_without_the_right_to_keep_them_nothing_is_lost(
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
