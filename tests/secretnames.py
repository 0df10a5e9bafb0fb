"""Names of forty variables that hold secrets, each with a unique value."""

_NAMES = """
    OPENAI_KEY AUTH JWT DSN CONNECTION_STRING WEBHOOK SLACK_WEBHOOK_URL HF_TOKEN GITHUB_PAT
    STRIPE_KEY AWS_ACCESS_KEY_ID AWS_SECRET_ACCESS_KEY DB_PASS PGPASSWORD MYSQL_PWD accessToken
    SIGNING_KEY AUTHORIZATION SSH_KEY API_KEY PASSPHRASE CERT_KEY TLS_KEY SAS SAS_URL SESSION
    SESSION_ID COOKIE PRIVATE SENTRY_DSN CONN_STR CLIENT_SECRET REDIS_AUTH BASIC_AUTH OAUTH CREDS
    ENCRYPTION_KEY KEY TOKEN SALT
"""

MARKERS = {name: f"marker-{number}-of-{name}" for number, name in enumerate(_NAMES.split())}
PLAIN = {"THRESHOLD": "marker-of-threshold", "MODEL": "marker-of-model"}
"""Variables that hold no secret."""

ENV = [{"name": name, "value": value} for name, value in (MARKERS | PLAIN).items()]
