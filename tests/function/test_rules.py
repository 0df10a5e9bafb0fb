"""Rules between values: each with a file that violates it, and the reported position."""

import pytest

from fnbuild.function import rules
from fnbuild.function.types import Function, Spec, Trigger
from tests.function.function_folder import GOOD, Folder, at

HTTP = "  triggers:\n    web:\n      kind: http\n"


def named(name: str) -> str:
    return GOOD.replace("fn", name)


@pytest.mark.parametrize(
    "name", ["a", "YOLO-v8-n", "sam2.1_hiera_large.pt", "pth.facebookresearch.sam", "0x", "a" * 63]
)
def test_valid_names(folder: Folder, name: str) -> None:
    assert folder.findings(named(name)) == []


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("'a b'", "name"), ("-a", "name"), ("a/b", "name"), ("../x", "name"), ("é", "name"),
        ("a" * 64, "name"), ("dashboard", "name-reserved"), ("dlx", "name-reserved"),
        ("''", "name-missing"), ("", "name-missing"),
    ],
)  # fmt: skip
def test_invalid_names(folder: Folder, name: str, rule: str) -> None:
    finding = folder.only(named(name))
    assert (finding.severity, finding.rule) == ("error", rule)
    assert at(finding)[0] in (1, 2)


@pytest.mark.parametrize("label", ["python:3.6", "python:3.13", "python", "python:3.9.1"])
def test_runtimes(folder: Folder, label: str) -> None:
    assert folder.findings(GOOD.replace("python:3.9", label)) == []


@pytest.mark.parametrize(
    ("label", "hint"),
    [
        ("python:2.7", "python:3.6"), ("python:3.5", "python:3.6"), ("python3.8", "python:3.8"),
        ("golang", "python:3.9"), ("nodejs:18", "python:3.9"), ("python:latest", "python:"),
    ],
)  # fmt: skip
def test_unsupported_runtimes(folder: Folder, label: str, hint: str) -> None:
    finding = folder.only(GOOD.replace("python:3.9", label))
    assert (finding.rule, at(finding)) == ("runtime", (4, 12))
    assert hint in (finding.hint or "")


def test_a_future_runtime(folder: Folder) -> None:
    finding = folder.only(GOOD.replace("python:3.9", "python:3.99"))
    assert (finding.severity, finding.rule, at(finding)) == ("warning", "runtime", (4, 12))
    assert "3.99" in finding.message


@pytest.mark.parametrize("handler", ["main", "main:", ":handler", "main:a:b", "main.py:handler"])
def test_invalid_handlers(folder: Folder, handler: str) -> None:
    finding = folder.only(GOOD.replace("main:handler", f"'{handler}'"))
    assert (finding.severity, finding.rule, at(finding)) == ("error", "handler", (5, 12))


def test_a_handler_in_a_package(folder: Folder) -> None:
    (folder.path / "app" / "api").mkdir(parents=True)
    (folder.path / "app" / "api" / "serve.py").write_text("")
    assert folder.findings(GOOD.replace("main:", "app.api.serve:")) == []


def test_a_handler_whose_module_is_missing(folder: Folder) -> None:
    finding = folder.only(GOOD.replace("main:", "mian:"))
    assert (finding.severity, finding.rule) == ("warning", "handler-module")
    assert finding.hint == "did you mean main:handler?"


@pytest.mark.parametrize(
    ("lines", "rule", "place", "message"),
    [
        ("  eventTimeout: 30", "duration", (6, 17), "is not a duration"),
        ("  eventTimeout: 0s", "duration", (6, 17), "above zero"),
        ("  eventTimeout: -1s", "duration", (6, 17), "above zero"),
        ("  serviceType: Nodeport", "service-type", (6, 16), "ClusterIP, NodePort"),
        ("  imagePullPolicy: always", "image-pull-policy", (6, 20), "Always"),
        ("  preemptionMode: deny", "preemption-mode", (6, 19), "prevent"),
        ("  loggerSinks: [{level: loud}]", "log-level", (6, 25), "debug"),
        ("  minReplicas: 0", "replicas", (6, 16), "needs a maxReplicas"),
        ("  minReplicas: 3\n  maxReplicas: 2", "replicas", (6, 16), "more than maxReplicas"),
        ("  maxReplicas: 0", "replicas", (6, 16), "above zero"),
        ("  replicas: -1", "range", (6, 13), "0 or more"),
        ("  targetCPU: 101", "range", (6, 14), "0 to 100"),
        ("  nodeSelector: {'a b': c}", "label", (6, 18), "label's key"),
        ("  nodeSelector: {gpu: a b}", "label", (6, 23), "label's value"),
        ("  image: Not An Image", "image", (6, 10), "not the name of an image"),
        ("  build: {baseImage: Ubuntu:22.04}", "image", (6, 22), "not the name of an image"),
        ("  build: {registry: 'a b'}", "registry", (6, 21), "not the name of a registry"),
        ("  build: {mode: always}", "build-mode", (6, 17), "alwaysBuild"),
        ("  build: {codeEntryType: gti}", "code-entry", (6, 26), "codeEntryType"),
        ("  build: {codeEntryType: git}", "code-entry", (6, 26), "needs a branch"),
        ("  build: {codeEntryType: github}", "code-entry", (6, 26), "branch"),
        ("  build: {functionSourceCode: '%%'}", "source-code", (6, 31), "base64"),
        ("  resources: {limits: {nvidia.com/gpu: 0.5}}", "gpu", (6, 40), "whole number"),
        ("  resources: {limits: {cpu: 1}, requests: {cpu: 2}}", "resources", (6, 49), "above its"),
        ("  resources: {limits: {cpu: -1}}", "bad-quantity", (6, 29), "negative"),
        ("  volumes: [{volume: {name: a}}]", "volume", (6, 13), "volumeMount"),
        (
            "  volumes: [{volume: {name: a}, volumeMount: {name: b, mountPath: /x}}]",
            "volume", (6, 53), "the same name",
        ),
        ("  env: [{name: A=B}]", "env-name", (6, 16), "environment variable"),
        ("  env: [{name: FNBUILD_MAX_PIXELS, value: 64M}]", "env-pixels", (6, 43), "above zero"),
        (
            "  env: [{name: STORAGE_URI, value: 'hf://owner'}]",
            "storage-uri",
            (6, 36),
            "not exactly an owner and a model",
        ),
        ("  env: [{name: STORAGE_SHA256, value: abc}]", "storage-sha256", (6, 39), "not a sha256"),
        ("  sidecars: [{name: a}]", "container", (6, 14), "has no image"),
        (
            "  sidecars: [{name: a, image: b, ports: [{name: p, containerPort: 8080}]}]",
            "container", (6, 42), "is used",
        ),
        ("  autoScaleMetrics: [{metricName: a, sourceType: Pods}]", "scale-metric", (6, 22), "thr"),
        (
            "  platform: {attributes: {restartPolicy: {name: allways}}}",
            "restart-policy", (6, 49), "always",
        ),
        ("  platform: {attributes: {restartPolicy: always}}", "restart-policy", (6, 42), "mapping"),
        ("  platform: {attributes: {healthCheckInterval: 5}}", "duration", (6, 48), "10s"),
        (
            "  build: {directives: {preCopy: [{kind: RUM, value: x}]}}",
            "directive", (6, 41), "not a Dockerfile instruction",
        ),
        (
            "  build: {directives: {preCopy: [{kind: from, value: x}]}}",
            "directive", (6, 41), "baseImage",
        ),
        ("  build: {directives: {preCopy: [{kind: RUN}]}}", "directive", (6, 41), "has no value"),
        (f"{HTTP}      name: other", "trigger-name", (9, 13), "has the name"),
        ("  triggers: {web: {kind: htpp}}", "trigger-kind", (6, 26), "not a kind"),
        ("  triggers: {web: {numWorkers: 1}}", "trigger-kind", (6, 14), "has no kind"),
        (f"{HTTP}    api: {{kind: http}}", "two-http-triggers", (9, 5), "second http trigger"),
        (f"{HTTP}      numWorkers: 100001", "workers", (9, 19), "100000"),
        (f"{HTTP}      maxWorkers: -1", "workers", (9, 19), "1 to"),
        (f"{HTTP}      workerTerminationTimeout: 5", "duration", (9, 33), "not a duration"),
        (f"{HTTP}      explicitAckMode: on", "ack-mode", (9, 24), "explicitOnly"),
        (f"{HTTP}      batch: {{mode: enable, batchSize: 0}}", "batch", (9, 40), "above zero"),
        (f"{HTTP}      batch: {{mode: enable, timeout: 1}}", "batch", (9, 38), "duration"),
        (f"{HTTP}      batch: {{mode: adaptive, batchSize: 0}}", "batch", (9, 42), "above zero"),
        (f"{HTTP}      batch: {{mode: adaptve}}", "batch", (9, 21), "enable, adaptive or disable"),
        (f"{HTTP}      attributes: {{port: 70000}}", "http-port", (9, 26), "65535"),
        (f"{HTTP}      attributes: {{maxRequestBodySize: 32MB}}", "http-size", (9, 40), "bytes"),
        (f"{HTTP}      attributes: {{reduceMemoryUsage: 1}}", "http-flag", (9, 39), "true or"),
        (f"{HTTP}      attributes: {{serviceType: ExternalName}}", "service-type", (9, 33), "Node"),
        (f"{HTTP}      attributes: {{ingresses: [a]}}", "ingresses", (9, 20), "mapping"),
        (f"{HTTP}      attributes: {{ingresses: {{a: b}}}}", "ingresses", (9, 35), "mapping"),
        (f"{HTTP}      attributes: {{maxBacklog: many}}", "http-size", (9, 32), "of requests"),
        (f"{HTTP}      attributes: {{maxBacklogBytes: 0}}", "http-size", (9, 37), "of bytes"),
        (f"{HTTP}      attributes: {{maxReplyBodySize: 1GB}}", "http-size", (9, 38), "of bytes"),
        (f"{HTTP}      attributes: {{protocols: v1}}", "protocols", (9, 31), "[v1, v2]"),
        (f"{HTTP}      attributes: {{protocols: [v1, v3]}}", "protocols", (9, 36), "'v3'"),
        (f"{HTTP}      attributes: {{Model: a/b}}", "protocols", (9, 27), "a model's name"),
        (f"{HTTP}      attributes: {{event: each}}", "protocols", (9, 27), "one event for each"),
        (
            f"{HTTP}      attributes:\n        inputs:\n"
            "        - {name: x, datatype: FP23, field: a}",
            "protocols", (11, 31), "FP32",
        ),
        (
            f"{HTTP}      attributes:\n        outputs:\n"
            "        - {name: x, datatype: FP32, field: 'a[b]'}",
            "protocols", (11, 44), "[].score",
        ),
        ("  triggers: {t: {kind: cron}}", "cron", (6, 14), "neither interval nor schedule"),
        ("  triggers: {t: {kind: cron, attributes: {interval: 3}}}", "duration", (6, 53), "unit"),
        (
            "  triggers: {t: {kind: cron, attributes: {schedule: '* 25 * * *'}}}",
            "cron", (6, 53), '"25" is not a valid hour',
        ),
        (
            "  triggers: {t: {kind: cron, attributes: {interval: 3s, event: [a]}}}",
            "cron", (6, 57), "mapping",
        ),
        (
            "  triggers: {t: {kind: cron, attributes: {interval: 3s, event: {headers: a}}}}",
            "cron", (6, 57), "mapping",
        ),
        (f"{HTTP}      attributes: {{cors: true}}", "cors", (9, 26), "mapping"),
        (f"{HTTP}      attributes: {{cors: {{enabled: 1}}}}", "cors", (9, 36), "true or false"),
        (f"{HTTP}      attributes: {{cors: {{allowHeaders: [1]}}}}", "cors", (9, 27), "texts"),
    ],
)  # fmt: skip
def test_errors(
    folder: Folder, lines: str, rule: str, place: tuple[int, int], message: str
) -> None:
    errors = [
        finding for finding in folder.findings(f"{GOOD}{lines}\n") if finding.severity == "error"
    ]
    assert [(finding.rule, at(finding)) for finding in errors] == [(rule, place)]
    assert message in f"{errors[0].message} {errors[0].hint}"


@pytest.mark.parametrize(
    ("lines", "rule", "place"),
    [
        (f"{HTTP}      numWorkers: 3\n      maxWorkers: 2", "workers-twice", (10, 19)),
        (f"{HTTP}      numWorkers: 0", "workers", (9, 19)),
        (f"{HTTP}      attributes: {{protocols: []}}", "protocols", (9, 20)),
        (f"{HTTP}      attributes: {{port: '32000'}}", "http-port", (9, 26)),
        (
            "  triggers: {t: {kind: cron, attributes: {interval: 3s, schedule: '@daily'}}}",
            "cron", (6, 67),
        ),
        (
            "  triggers: {t: {kind: cron, attributes: {interval: 3s, evnt: {}}}}",
            "unknown-key", (6, 57),
        ),
        ("  env: [{name: A}, {name: A}]", "env-twice", (6, 27)),
        ("  resources: {limits: {gpu: 1}}", "gpu", (6, 24)),
        ("  platform: {attributes: {restartPolcy: {name: no}}}", "unknown-key", (6, 27)),
        (f"{HTTP}      attributes: {{cors: {{alowOrigins: a}}}}", "unknown-key", (9, 27)),
        (
            "  build: {commands: [a], directives: {preCopy: [{kind: RUN, value: x}]}}",
            "directives-ignored", (6, 26),
        ),
        (f"{HTTP}      explicitAckMode: enable", "ack-mode", (9, 24)),
    ],
)  # fmt: skip
def test_warnings(folder: Folder, lines: str, rule: str, place: tuple[int, int]) -> None:
    finding = folder.only(f"{GOOD}{lines}\n")
    assert (finding.severity, finding.rule, at(finding)) == ("warning", rule, place)


@pytest.mark.parametrize(
    "lines",
    [
        f"{HTTP}      maxWorkers: 2",
        f"{HTTP}      attributes: {{PORT: 0, mode: sync}}",
        f"{HTTP}      attributes: {{protocols: [v1, v2, grpc], model: m, event: request}}",
        "  platform: {attributes: {restartPolicy: {name: no}, mountMode: volume}}",
        "  platform: {attributes: {healthCheckInterval: 1m30s}}",
        "  resources: {limits: {nvidia.com/gpu: 1, cpu: 500m}, requests: {cpu: 0.25}}",
        "  build: {image: 'registry.example.com:5000/a/b:tag', baseImage: 'cvat.openvino.base'}",
        "  build: {baseImage: 'python@sha256:" + "a" * 64 + "'}",
        "  minReplicas: 0\n  maxReplicas: 3",
        "  env: [{name: FNBUILD_MAX_PIXELS, value: 134217728}]",
        "  triggers: {tick: {kind: cron, attributes: {interval: 3s}}}",
        "  triggers: {tick: {kind: cron, attributes: {Schedule: '@daily', event: {body: a}}}}",
        "  build: {directives: {preCopy: [{kind: run, value: x}, {kind: SHELL, value: '[]'}]}}",
    ],
)
def test_files_without_findings(folder: Folder, lines: str) -> None:
    assert folder.findings(f"{GOOD}{lines}\n") == []


def test_a_handler_with_a_name_too_long_for_a_file(folder: Folder) -> None:
    assert folder.only(GOOD.replace("main:", "m" * 300 + ":")).rule == "handler-module"


def test_code_from_another_source(folder: Folder) -> None:
    text = GOOD.replace("main:", "other:")
    assert folder.findings(text + "  build: {path: 'https://example.com/code.zip'}\n") == []
    assert folder.findings(text + "  image: ready/made:1\n") == []


def test_an_example_of_a_size_is_of_the_same_key(folder: Folder) -> None:
    finding = folder.only(GOOD + f"{HTTP}      attributes: {{maxReplyBodySize: 0}}\n")
    assert "maxReplyBodySize: " in str(finding.hint)


def test_namespaces(folder: Folder) -> None:
    finding = folder.only(GOOD.replace("name: fn", "name: fn\n  namespace: ../up"))
    assert (finding.rule, at(finding)) == ("namespace", (3, 14))


def test_every_rule_is_listed_once_and_explained() -> None:
    every = (*rules.RULES, *rules.CVAT_RULES)
    assert len(set(every)) == len(every)
    assert all(rule.__doc__ for rule in every)


def test_complete_is_idempotent() -> None:
    once = rules.with_defaults(Function())
    assert rules.with_defaults(once) == once


@pytest.mark.parametrize(
    ("written", "held"), [("", "the platform's default"), ("60", "60 seconds")]
)
def test_a_readiness_timeout_of_zero(folder: Folder, written: str, held: str) -> None:
    text = GOOD + (f"  readinessTimeoutSeconds: {written}\n" if written else "")
    finding = folder.only(text, overrides=Function(spec=Spec(readiness_timeout_seconds=0)))
    assert (finding.severity, finding.rule) == ("warning", "readiness")
    assert held in finding.message
    assert at(folder.only(GOOD + "  readinessTimeoutSeconds: 0\n")) == (6, 28)


@pytest.mark.parametrize(("written", "flag"), [("num", "max"), ("max", "num"), ("max", "max")])
def test_workers_of_a_flag_replace_those_of_the_file(
    folder: Folder, written: str, flag: str
) -> None:
    trigger = Trigger(**{f"{flag}_workers": 1})  # type: ignore[arg-type]
    loaded = folder.good(
        f"{GOOD}{HTTP}      {written}Workers: 2\n",
        overrides=Function(spec=Spec(triggers={"web": trigger})),
    )
    assert list(loaded.report) == []
    assert loaded.function.spec.triggers["web"].num_workers == 1
    assert loaded.function.spec.triggers["web"].kind == "http"


SECRET = "  annotations: {fnbuild.io/secret-env: 'API_KEYS, B'}\nspec:\n  env: [{name: API_KEY}]\n"


def test_a_declared_secret_that_is_not_set(folder: Folder) -> None:
    text = GOOD.replace("spec:\n", SECRET)
    first, second = folder.findings(text)
    assert (first.severity, first.rule, at(first)) == ("warning", "secret-env-unset", (3, 40))
    assert "'API_KEYS'" in first.message
    assert "did you mean API_KEY?" in (first.hint or "")
    assert "did you mean" not in (second.hint or "")
    of_cluster = "spec:\n  envFrom: [{secretRef: {name: passwords}}]\n"
    assert folder.findings(text.replace("spec:\n", of_cluster)) == []
    of_sidecar = "spec:\n  sidecars: [{name: s, image: i, env: [{name: API_KEYS}, {name: B}]}]\n"
    assert folder.findings(text.replace("spec:\n", of_sidecar)) == []


def test_arguments_of_a_script_are_a_list_of_texts(folder: Folder) -> None:
    text = GOOD + "  runtimeAttributes:\n    arguments: %s\n"
    assert folder.findings(text % "[--predictor_host, localhost, --limit, 3]") == []
    finding = folder.only(text % "--predictor_host localhost")
    assert (finding.severity, finding.rule, at(finding)) == ("error", "script-arguments", (7, 16))
    finding = folder.only(text % "[--flag, true]")
    assert (finding.rule, at(finding)) == ("script-arguments", (7, 25))
