"""Explanations of admission messages that are not among the recordings."""

from __future__ import annotations

import pytest

from fnbuild.platforms.kubernetes.diagnosis.rejections import explain_pod_rejection

_HEAD = 'Error creating: pods "nuclio-faces-5bfb57654f-7ssdx" is forbidden: '


@pytest.mark.parametrize(
    ("message", "text", "hint"),
    [
        (
            f"{_HEAD}failed quota: small: must specify limits.cpu,limits.memory",
            "the quota small of namespace vision demands limits.cpu,limits.memory",
            "set them in spec.resources",
        ),
        (
            f'(combined from similar events): {_HEAD}violates PodSecurity "restricted:latest":'
            ' runAsNonRoot != true (pod or container "nuclio" must set'
            " securityContext.runAsNonRoot=true)",
            "the pod security level restricted of namespace vision refuses it: runAsNonRoot !=",
            "--hardened",
        ),
        (
            'Error creating: admission webhook "images.example.com" denied the request: only signed'
            " images",
            "the cluster's policy images.example.com refuses it: only signed images",
            "",
        ),
        (f"{_HEAD}something new", "the cluster refuses its pods: something new", ""),
    ],
)
def test_admission_errors_are_explained(message: str, text: str, hint: str) -> None:
    explanation = explain_pod_rejection(message, "vision")
    assert explanation.text.startswith(text)
    assert hint in explanation.hint
    assert explanation.fatal
