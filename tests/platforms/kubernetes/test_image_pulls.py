"""Explanations of container runtimes' messages about images that cannot be pulled."""

from __future__ import annotations

import pytest

from fnbuild.platforms.kubernetes.diagnosis.image_pulls import explain_pull_failure

IMAGE = "registry.example.com/vision/faces:1"
_UNPACK = (
    f'Failed to pull image "{IMAGE}": rpc error: code = Unknown desc = failed to pull and unpack'
    f' image "{IMAGE}": failed to resolve reference "{IMAGE}": '
)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (f"{_UNPACK}{IMAGE}: not found", "the registry registry.example.com has no image {}"),
        (
            f'Back-off pulling image "{IMAGE}": ErrImagePull: rpc error: code = NotFound desc ='
            f' failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}":'
            f" {IMAGE}: not found",
            "the registry registry.example.com has no image {}",
        ),
        (
            f"{_UNPACK}failed to authorize: failed to fetch anonymous token: unexpected status from"
            " GET request to https://registry.example.com/token: 401 Unauthorized",
            "the registry registry.example.com requires a login for the image {}",
        ),
        (
            f"{_UNPACK}pull access denied, repository does not exist or may require authorization:"
            " server message: insufficient_scope: authorization failed",
            "the registry registry.example.com does not provide the image {}: it does not exist,"
            " or the registry requires a login",
        ),
        (
            f'{_UNPACK}failed to do request: Head "https://registry.example.com/v2/": http: server'
            " gave HTTP response to HTTPS client",
            "the registry registry.example.com speaks plain HTTP, and the nodes ask it by HTTPS",
        ),
        (
            f'{_UNPACK}failed to do request: Head "https://registry.example.com/v2/": dial tcp:'
            " lookup registry.example.com on 10.0.0.2:53: no such host",
            "the nodes cannot reach the registry registry.example.com: no such host",
        ),
        (
            f"{_UNPACK}no match for platform in manifest: not found",
            "the image {} is not made for the node's processor",
        ),
        (
            f"{_UNPACK}unexpected status code: 429 Too Many Requests - Server message:"
            " toomanyrequests: You have reached your pull rate limit.",
            "the registry registry.example.com allows no more pulls for now",
        ),
        (
            f"{_UNPACK}tls: failed to verify certificate: x509: certificate signed by unknown"
            " authority",
            "the nodes do not trust the certificate of the registry registry.example.com",
        ),
        ("write /var/lib/x: no space left on device", "the node has no disk space left"),
        ("something new", "the image {} cannot be pulled: something new"),
        (f'Back-off pulling image "{IMAGE}"', "the image {} cannot be pulled"),
    ],
)
def test_messages_of_containerd_are_explained(message: str, text: str) -> None:
    explanation = explain_pull_failure(IMAGE, [message], namespace="vision")
    assert explanation.text.startswith(text.format(IMAGE))
    assert explanation.fatal


def test_the_cause_may_be_in_an_older_message() -> None:
    back_off = f'Back-off pulling image "{IMAGE}"'
    explanation = explain_pull_failure(
        IMAGE, [back_off, "Error: ImagePullBackOff", f"{_UNPACK}{IMAGE}: not found"]
    )
    assert "has no image" in explanation.text


def test_a_refused_login_is_explained() -> None:
    explanation = explain_pull_failure(
        IMAGE, ["unauthorized: bad password"], secrets=("mine",), namespace="vision"
    )
    assert explanation.text == (
        "the registry registry.example.com does not accept the login of secret mine for the image"
        f" {IMAGE}"
    )
    assert "create registry-secret" in explanation.hint
    assert "-n vision --registry registry.example.com" in explanation.hint


def test_the_pull_policy_is_suggested_for_unreachable_registries() -> None:
    message = "dial tcp: lookup registry.example.com on 10.0.0.2:53: no such host"
    hint = "`imagePullPolicy: IfNotPresent` in spec runs an image that the nodes have already"
    assert hint in explain_pull_failure(IMAGE, [message], policy="Always").hint
    assert hint not in explain_pull_failure(IMAGE, [message], policy="IfNotPresent").hint
    assert (
        hint not in explain_pull_failure(IMAGE, ["no space left on device"], policy="Always").hint
    )


def test_an_unpushed_image_is_explained() -> None:
    message = (
        "Error response from daemon: pull access denied for fnbuild/faces, repository does not"
        " exist or may require 'docker login': denied: requested access to the resource is denied"
    )
    explanation = explain_pull_failure("fnbuild/faces:latest", [message], namespace="vision")
    assert explanation.text.startswith(
        "the registry docker.io does not provide the image fnbuild/faces"
    )
    assert explanation.hint.startswith(
        "`-r REGISTRY` names a registry that the cluster can pull from"
    )
