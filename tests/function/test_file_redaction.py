"""A configuration file loses its secrets and nothing else."""

from __future__ import annotations

import pytest
import yaml

from fnbuild.function.file_redaction import VariableRedaction, redact_config_text

FILE = """\
# What it is for: s3cr-not
metadata: {name: f}   # a name
spec:
  env:
    - {name: PASSWORD, value: s3cret}
    - {name: SIZE, value: kept}
  triggers:
    web:
      kind: http
      password:   "s3cret"  # told to nobody
      Secret: 's3cret'
      numWorkers: 2
    tick: {kind: cron, secret: s3cret, attributes: {interval: 1s}}
    my.dotted: {kind: http, password: s3cret:8}
    queue:
      kind: kafka-cluster
      url: kafka://me:s3cret@broker:9092  # the broker
      attributes:
        sasl: {enable: true, user: me, password: s3cret}
        more: [{host: h, password: s3cret}, "amqp://me:s3cret@h"]
        topics: [frames]
        accessKey: s3cret
  build:
    path: https://me:s3cret@example.com/x.git   # where it is
    codeEntryAttributes:
      branch: main
      username: s3cret
      headers:
        Authorization: Bearer s3cret
        X-Other:
          - s3cret

      # The next one is a block.
      password: |
        s3cret
        s3cret

      s3SecretAccessKey: >-
        s3cret
          s3cret
      # and this stays
      s3SessionToken: s3cret
        s3cret
      workDir: fn
"""
EXPECTED = """\
# What it is for: s3cr-not
metadata: {name: f}   # a name
spec:
  env:
    - {name: PASSWORD, value: ""}
    - {name: SIZE, value: kept}
  triggers:
    web:
      kind: http
      password:   ""  # told to nobody
      Secret: ""
      numWorkers: 2
    tick: {kind: cron, secret: "", attributes: {interval: 1s}}
    my.dotted: {kind: http, password: ""}
    queue:
      kind: kafka-cluster
      url: kafka://broker:9092  # the broker
      attributes:
        sasl: {enable: true, user: me, password: ""}
        more: [{host: h, password: ""}, "amqp://h"]
        topics: [frames]
        accessKey: ""
  build:
    path: https://example.com/x.git   # where it is
    codeEntryAttributes:
      branch: main
      username: ""
      headers:
        Authorization: ""
        X-Other:
          - ""

      # The next one is a block.
      password: ""

      s3SecretAccessKey: ""
      # and this stays
      s3SessionToken: ""
      workDir: fn
"""


@pytest.mark.parametrize("break_", ["\n", "\r\n"])
def test_only_secrets_are_removed(break_: str) -> None:
    text = redact_config_text(FILE.replace("\n", break_).encode(), "function.yaml").decode()
    assert text == EXPECTED.replace("\n", break_)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"spec: {triggers: {web: {password: }}}",
        b"spec:\r\n  triggers: {web: {password: '', numWorkers: 2}}   \r\n\r\n",
        b"\xef\xbb\xbfspec: {build: {path: 'https://example.com/x', codeEntryAttributes: {a: b}}}",
        b"spec: [password, secret]",
        b"- password: here\n",
        b"password: here\nspec: {triggers: 5, build: [1]}",
        b"spec: {triggers: {web: {password: s3cret}}\n",
    ],
)
def test_a_file_without_secrets_is_unchanged(data: bytes) -> None:
    assert redact_config_text(data, "function.yaml") == data


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "pw: &pw s3cret\nspec: {triggers: {web: {password: *pw}, tick: {secret: *pw}}}\n",
            'pw: &pw ""\nspec: {triggers: {web: {password: *pw}, tick: {secret: *pw}}}\n',
        ),
        (
            "spec:\n  triggers:\n    a: &a\n      kind: http\n      secret: s3cret\n"
            "    b:\n      <<: *a\n",
            'spec:\n  triggers:\n    a: &a\n      kind: http\n      secret: ""\n'
            "    b:\n      <<: *a\n",
        ),
        ("SPEC: {Triggers: {w: {PASSWORD: !!str 5}}}", 'SPEC: {Triggers: {w: {PASSWORD: ""}}}'),
        (
            "spec: {triggers: {web: {secret: 'http://me:s3cret@here'}}}",
            'spec: {triggers: {web: {secret: ""}}}',
        ),
        ('{"spec": {"triggers": {"web": {"secret": "s3cret"}}}}',
         '{"spec": {"triggers": {"web": {"secret": ""}}}}'),
    ],
)  # fmt: skip
def test_other_forms_of_a_secret(text: str, expected: str) -> None:
    assert redact_config_text(text.encode(), "function.yaml").decode() == expected


def test_file_is_rewritten_if_a_secret_cannot_be_edited() -> None:
    text = 'metadata: {name: ü}\nspec: {build: {path: "https:\\/\\/me:s3cret@example.com/x"}}\n'
    assert yaml.safe_load(redact_config_text(text.encode(), "function.yaml")) == {
        "metadata": {"name": "ü"},
        "spec": {"build": {"path": "https://example.com/x"}},
    }


def test_variables_as_readers_see_them() -> None:
    text = """\
metadata: {name: f, annotations: {fnbuild.io/secret-env: B}}
spec:
  env:
  - name: A
    value: one  # the first
  - {name: B, value: 2}
  - {name: C, valueFrom: {secretKeyRef: {name: s, key: k}}}
  sidecars:
  - name: s
    env: [{name: D, value: "x"}]
"""
    masked = redact_config_text(
        text.encode(), "function.yaml", VariableRedaction("[redacted]", every=True)
    ).decode()
    mask = '"[redacted]"'
    expected = text.replace("one ", f"{mask} ").replace("value: 2", f"value: {mask}")
    assert masked == expected.replace('"x"', mask)
    assert redact_config_text(text.encode(), "function.yaml").decode() == text.replace("2}", '""}')
