"""Variables that hold a secret: by their names, by their values, or by declaration."""

from __future__ import annotations

import time

import pytest

from fnbuild.function.secret_detection import (
    declared_secrets,
    has_credentials,
    is_secret,
    is_secret_name,
    is_secret_value,
    mask_secrets,
)

SECRETS = """
    OPENAI_KEY AUTH JWT DSN CONNECTION_STRING WEBHOOK SLACK_WEBHOOK_URL OPENAI_API_KEY HF_TOKEN
    GITHUB_PAT STRIPE_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY DB_PASS PGPASS PWD_DB
    accessToken HFTOKEN TOKEN_GITHUB SIGNING_KEY AUTHORIZATION SSH_KEY API_KEY DB_PASSWORD
    HF_TOKENIZER_TOKEN X-Api-Key PASSPHRASE CERT_KEY TLS_KEY SAS SAS_URL SESSION SESSION_ID
    COOKIE PAT PRIVATE PRIVATE_KEY_PEM SENTRY_DSN CONN_STR connectionString CLIENT_SECRET
    MYSQL_PWD REDIS_AUTH BASIC_AUTH OAUTH CREDS GOOGLE_APPLICATION_CREDENTIALS ENCRYPTION_KEY
    KEY TOKEN SALT LICENSE_KEY BEARER apiKey APIKEY API_TOKENS WANDB_API_KEY SMTP_PASS
    ACCOUNT_KEY KEY1 AZURE_STORAGE_KEY KUBE_TOKEN AUTH_HEADER SECRETKEY PASSWORD PASSWD JWT_URL
    NUCLIO_DB_PASSWORD_2 CONN_STRING DATABASE_CONNECTION_STRING MASTERKEY
    models.example.com-headers
"""
OTHERS = """
    TOKENIZERS_PARALLELISM TOKENIZER MAX_TOKENS MAX_NEW_TOKENS maxTokens TOKEN_LIMIT BYPASS
    COMPASS_X PATTERN PATH KEY_POINTS MONKEY KEYPOINTS TOKENIZER_PATH AUTHOR AUTHORS KEYFRAME
    KEYFRAMES NUM_KEYPOINTS KEYWORDS KEYBOARD HOTKEY PAD_TOKEN EOS_TOKEN_ID PRIMARY_KEY
    PUBLIC_KEY MODEL_PATH DEVICE THRESHOLD BATCH_SIZE NUM_WORKERS SESSION_OPTIONS
    ORT_SESSION_THREADS FORWARD_PASS COOKIE_NAME AUTH_URL TOKEN_TYPE KEY_FILE SECRET_NAME TURKEY
    PASSAGE PASSENGER DONKEY_KONG PRIVATE_REGISTRY CUDA_VISIBLE_DEVICES SEED LICENSE
    SIGNATURE_NAME PIN_MEMORY NUM_IMAGE_TOKENS STOP_TOKENS CLASS_TOKEN SPATIAL PATCH_SIZE
    PATIENCE SASRECIPE CERTAINTY CERTAIN ASSESSMENT OBSESSION PASSES CACHE_KEY SORT_KEY
    STATE_DICT_KEY HF_HOME DATABASE_URL AUTHENTIC LOG_LEVEL DESIGN KEYS_COUNT PASSTHROUGH
    DASHBOARD_URL CREDIT SALTY TOKENS_PER_SECOND NMS_IOU TABLE_HEADERS
"""


@pytest.mark.parametrize("name", SECRETS.split())
def test_names_of_secrets(name: str) -> None:
    assert is_secret_name(name)


@pytest.mark.parametrize("name", OTHERS.split())
def test_names_of_other_variables(name: str) -> None:
    assert not is_secret_name(name)


def test_addresses_with_credentials() -> None:
    for value in ("postgres://u:PW@h/db", "redis://:PW@h", "amqp://u:P/W@h", "https://tok@h/x"):
        assert has_credentials(value)
    for value in ("https://h/x", "https://h/a@v1", "https://h:80/x", "me@example.com"):
        assert not has_credentials(value)


@pytest.mark.parametrize(
    "value",
    [
        "-----BEGIN RSA PRIVATE KEY-----\nMII",
        "ghp_0123456789abcdefABCD",
        "sk-proj-abcdefghijklmnop",
        "xoxb-1234567890-abc",
        "AKIAIOSFODNN7EXAMPLE",
        "eyJhbGciOiJI.eyJzdWIiOiIx.abc",
        "Bearer abcdefghijkl1no",
        "DefaultEndpointsProtocol=https;AccountName=a;AccountKey=abc==;",
        "https://hooks.slack.com/services/T/B/x",
        "https://x/y?sig=abc",
        "Server=x;Password=y;",
    ],
)
def test_values_that_are_secrets(value: str) -> None:
    assert is_secret_value(value)
    assert is_secret("PLAIN", value)


@pytest.mark.parametrize(
    "value",
    ["hf_model", "sk-learn", "resnet50", "https://h/x?size=3", "basic usage", "0.5", "mask_rcnn",
     "/models/sk-abc.pt", "me@example.com", "Basic transportation", "pypi-server", "",
     '[{"id": 0, "name": "person", "type": "skeleton"}]'],
)  # fmt: skip
def test_other_values(value: str) -> None:
    assert not is_secret_value(value)


@pytest.mark.parametrize(
    ("command", "left"),
    [
        ("curl -H 'Authorization: Bearer abcdefghij1klmnop' x", "curl -H 'Authorization: *' x"),
        ("hf login --token hf_0123456789abcdefgh", "hf login --token *"),
        ("wget --password hunter2 http://x", "wget --password * http://x"),
        ("mysql --password=$PW", "mysql --password=$PW"),
        ("ENV TOKEN abc", "ENV TOKEN *"),
        ("pip install secret-tool==1 tokenizers", "pip install secret-tool==1 tokenizers"),
        ("echo the password is fine", "echo the password is fine"),
    ],
)
def test_commands(command: str, left: str) -> None:
    assert mask_secrets(command, "*") == left


def test_declared_by_an_annotation() -> None:
    assert declared_secrets({"fnbuild.io/secret-env": "A, B,,"}) == {"A", "B"}
    assert declared_secrets({}) == frozenset()


@pytest.mark.parametrize("part", ["://", "://a:", "sk-", "eyJ", "--a ", "a=", "A1", "-----BEGIN "])
def test_any_text_is_checked_quickly(part: str) -> None:
    text, began = part * (60_000 // len(part)), time.process_time()
    is_secret_value(text)
    mask_secrets(text, "*")
    is_secret_name(text)
    assert time.process_time() - began < 10
