"""Values as users write them, and the files that the reader looks for."""

import base64
from pathlib import Path

import pytest

from fnbuild.errors import ConfigError
from fnbuild.function.reader import (
    check_function,
    function_from_dict,
    function_from_text,
    load_function,
)
from fnbuild.function.types import EnvVar, Function, Metadata, Spec, to_dict
from tests.function.function_folder import GOOD, Folder, at

NAMES = (
    "alphapose", "cluster", "conda-mask", "guessed-keys", "minimal", "reid", "sam-interactor",
    "skeleton", "tracker", "volumes", "yolo-gpu",
)  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_realistic_files_are_read_without_an_error(data: Path, name: str) -> None:
    loaded = load_function(data / f"{name}.yaml")
    assert loaded.function.metadata.name
    assert loaded.folder == data
    assert loaded.config_path == data / f"{name}.yaml"
    assert not loaded.report.errors


@pytest.mark.parametrize("name", NAMES)
def test_read_function_can_be_written_and_read_again(data: Path, name: str) -> None:
    function = load_function(data / f"{name}.yaml").function
    assert function_from_dict(to_dict(function), "again") == function


def test_the_alphapose_function(data: Path) -> None:
    function = load_function(data / "alphapose.yaml").function
    spec = function.spec
    assert (function.metadata.name, function.metadata.namespace) == ("alphapose", "cvat")
    assert spec.runtime == "python:3.6"
    assert spec.env[0].name == "NUCLIO_PYTHON_EXE_PATH"
    assert [(d.kind, d.value) for d in spec.build.directives.pre_copy] == [
        ("USER", "root"),
        ("WORKDIR", "/Alphapose"),
    ]
    assert spec.node_selector == {"gpu": "true"}
    trigger = spec.triggers["myHttpTrigger"]
    assert (trigger.num_workers, trigger.max_workers) == (2, 0)
    assert trigger.worker_availability_timeout_milliseconds == 10000
    assert trigger.attributes == {"maxRequestBodySize": 33554432}
    assert spec.platform.attributes["restartPolicy"] == {"name": "always", "maximumRetryCount": 3}


def test_a_tab_is_reported_at_its_position(data: Path) -> None:
    _, report = check_function(data / "alphapose-tab.yaml")
    (error,) = report.errors
    assert error.rule == "tab"
    assert at(error) == (26, 1)
    assert error.excerpt == '\t{"id": 17, "name": "right_ankle"}'
    assert "--fix" in (error.hint or "")


def test_values_become_text_in_text_fields(data: Path) -> None:
    function = load_function(data / "volumes.yaml").function
    annotations = function.metadata.annotations
    assert annotations["spec"] == ""
    assert annotations["min_neg_points"] == "0"
    assert annotations["startswith_box"] == "true"
    assert {v.name: v.value for v in function.spec.env} == {
        "REDIS_HOST": "cvat_redis_inmem",
        "REDIS_PORT": "6379",
        "USE_HALF": "true",
    }
    assert function.spec.resources.limits == {"nvidia.com/gpu": "2", "cpu": "8", "memory": "16Gi"}
    assert function.spec.volumes[0]["volume"]["configMap"]["defaultMode"] == 0o750
    assert function.spec.triggers["http"].attributes["maxRequestBodySize"] == 3355443200


def test_keys_in_another_case(folder: Folder) -> None:
    text = GOOD + "  Triggers:\n    t: {KIND: http, maxworkers: 3, NumWorkers: 0}\n"
    function = folder.good(text).function
    assert function.spec.triggers["t"].num_workers == 3


def test_one_key_in_two_cases(folder: Folder) -> None:
    finding = folder.only(GOOD + "  eventTimeout: 1s\n  eventtimeout: 2s\n")
    assert (finding.rule, at(finding)) == ("duplicate-key", (7, 3))


@pytest.mark.parametrize("part", ["build:", "triggers:", "env:", "platform: ~", "resources: null"])
def test_empty_sections(folder: Folder, part: str) -> None:
    assert folder.findings(f"{GOOD}  {part}\n") == []


def test_defaults(folder: Folder) -> None:
    function = folder.good("metadata: {name: fn}\nspec: {runtime: python}").function
    assert function.spec.runtime == "python:3.9"
    assert function.spec.handler == "main:handler"
    trigger = function.spec.triggers["default-http"]
    assert (trigger.kind, trigger.name, trigger.num_workers) == ("http", "default-http", 1)


def test_no_default_trigger_when_it_is_disabled(folder: Folder) -> None:
    assert folder.good(GOOD + "  disableDefaultHTTPTrigger: true\n").function.spec.triggers == {}


def test_the_handler_of_a_module_named_as_the_folder(folder: Folder) -> None:
    (folder.path / "fn.py").write_text("")
    function = folder.good("metadata: {name: fn}\nspec: {runtime: python:3.9}").function
    assert function.spec.handler == "fn:handler"


@pytest.mark.parametrize(
    ("line", "place", "message"),
    [
        ("  replicas: two", (6, 13), "whole number, not the text 'two'"),
        ('  replicas: "2"', (6, 13), "whole number"),
        ("  replicas: 9223372036854775808", (6, 13), "64 bits"),
        ('  disable: "true"', (6, 12), "true or false"),
        ("  disable: 1", (6, 12), "true or false, not the number 1"),
        ("  env: {A: b}", (6, 8), "a list, not a mapping"),
        ("  env: [A]", (6, 9), "item 1 of env must be a mapping"),
        ("  triggers: [{kind: http}]", (6, 13), "a mapping, not a list"),
        ("  description: [a]", (6, 16), "text, not a list"),
        ("  build: {commands: pip install x}", (6, 21), "a list, not the text"),
        ("  env: [{value: x}]", (6, 9), "item 1 of env has no name"),
        ("  dataBindings: {a: {b: .nan}}", (6, 25), "JSON can hold"),
        ("  resources: {limits: {memory: 4GB}}", (6, 32), "not a quantity"),
    ],
)
def test_wrong_types(folder: Folder, line: str, place: tuple[int, int], message: str) -> None:
    finding = folder.only(f"{GOOD}{line}\n")
    assert finding.severity == "error"
    assert message in finding.message
    assert at(finding) == place
    assert finding.excerpt == line


def test_all_problems_at_once_in_order(folder: Folder) -> None:
    text = (
        "metadata:\n  name: -x\nspec:\n  runtime: python:3.5\n  handlr: main:handler\n"
        "  replicas: many\n  eventTimeout: 30\n"
    )
    findings = folder.findings(text)
    assert [finding.rule for finding in findings] == [
        "name", "runtime", "unknown-key", "wrong-type", "duration"
    ]  # fmt: skip
    assert [at(finding)[0] for finding in findings] == [2, 4, 5, 6, 7]


@pytest.mark.parametrize(
    ("lines", "hint"),
    [
        ("  evenTimeout: 3s", "did you mean eventTimeout?"),
        ("  timeoutSeconds: 120", "eventTimeout: 120s"),
        ("  maxExecutionTimeout: 120s", "eventTimeout: 120s"),
        ("  build: {volumes: []}", "spec.volumes"),
        ("  build: {baseimag: a}", "did you mean baseImage?"),
        ("  numWorkers: 2", "belongs in spec.triggers.NAME"),
        ("  triggers: {t: {kind: http, attributes: {timeoutSeconds: 1}}}", "eventTimeout"),
        (
            "  triggers: {t: {kind: http, attributes: {maxRequestBodySiz: 1}}}",
            "maxRequestBodySize?",
        ),
    ],
)
def test_unknown_keys_are_warnings_with_a_suggestion(folder: Folder, lines: str, hint: str) -> None:
    finding = folder.only(f"{GOOD}{lines}\n")
    assert (finding.severity, finding.rule) == ("warning", "unknown-key")
    assert hint in (finding.hint or "")


def test_unknown_keys_are_kept(folder: Folder) -> None:
    loaded = folder.good(GOOD + "  odd: {a: [1]}\n")
    assert loaded.function.spec.extra == {"odd": {"a": [1]}}
    assert to_dict(loaded.function)["spec"]["odd"] == {"a": [1]}


def test_unknown_keys_are_errors_when_strict(folder: Folder) -> None:
    loaded, report = folder.check(GOOD + "  odd: 1\n", strict=True)
    assert loaded is None
    assert [finding.rule for finding in report.errors] == ["unknown-key"]


def test_meta_is_not_metadata(folder: Folder) -> None:
    findings = folder.findings(
        "meta: {name: x}\nspec: {runtime: python:3.9, handler: main:handler}"
    )
    assert [finding.rule for finding in findings] == ["unknown-key", "name-missing"]
    assert "metadata" in (findings[0].hint or "")


def test_api_version_and_kind_are_ignored(folder: Folder) -> None:
    assert folder.findings(f"apiVersion: whatever/v9\nkind: Pod\n{GOOD}") == []


@pytest.mark.parametrize(
    ("value", "text"), [("3.10", "3.1"), ("yes", "true"), ("0750", "488"), ("1_000", "1000")]
)
def test_unquoted_values_that_change(folder: Folder, value: str, text: str) -> None:
    (folder.path / "x").mkdir()
    loaded = folder.good(f"{GOOD}  description: {value}\n")
    assert loaded.function.spec.description == text
    (warning,) = loaded.report.warnings
    assert (warning.rule, at(warning)) == ("unquoted", (6, 16))


def test_overrides_win_and_have_no_position(folder: Folder) -> None:
    flags = Function(
        metadata=Metadata(name="other"), spec=Spec(event_timeout="10", runtime="python:3.11")
    )
    loaded, report = folder.check(GOOD + "  eventTimeout: 5s\n", overrides=flags)
    assert loaded is None
    (error,) = report.errors
    assert (error.rule, error.span) == ("duration", None)


def test_variables_keep_their_positions_next_to_those_of_flags(folder: Folder) -> None:
    text = GOOD + "  env:\n  - {name: FIRST, value: a}\n  - {name: A=B}\n"
    line = len(text.splitlines())
    shadows = EnvVar(name="FIRST", value="b")
    for env in ([], [EnvVar(name="OTHER", value="x")], [shadows], [EnvVar(name="X"), shadows]):
        _, report = folder.check(text, overrides=Function(spec=Spec(env=env)))
        (error,) = report.errors
        assert (error.rule, at(error)) == ("env-name", (line, 12)), env
    _, report = folder.check(text, overrides=Function(spec=Spec(env=[EnvVar(name="C D")])))
    places = {error.message[:5]: error.span is None for error in report.errors}
    assert places == {"'C D'": True, "'A=B'": False}


def test_a_name_from_the_flags(folder: Folder) -> None:
    flags = Function(metadata=Metadata(name="flagged"))
    loaded = folder.good("spec: {runtime: python:3.9, handler: main:handler}", overrides=flags)
    assert loaded.function.metadata.name == "flagged"


def test_function_yml(folder: Folder) -> None:
    (folder.path / "function.yml").write_text(GOOD)
    assert load_function(folder.path).config_path == folder.path / "function.yml"
    loaded = folder.good(GOOD)
    assert loaded.config_path == folder.config
    assert [finding.rule for finding in loaded.report] == ["two-files"]


def test_another_file_by_name(folder: Folder) -> None:
    (folder.path / "function-gpu.yaml").write_text(GOOD.replace("fn", "gpu"))
    assert (
        load_function(folder.path, config_file=Path("function-gpu.yaml")).function.metadata.name
        == "gpu"
    )
    assert load_function(folder.path / "function-gpu.yaml").function.metadata.name == "gpu"
    with pytest.raises(ConfigError, match=r"missing\.yaml does not exist"):
        load_function(folder.path, config_file=Path("missing.yaml"))


def test_a_folder_without_configuration(folder: Folder) -> None:
    (folder.path / "function-gpu.yaml").write_text(GOOD)
    message = r"/fn' holds no function.yaml \(nor function.yml\)"
    with pytest.raises(ConfigError, match=message) as raised:
        load_function(folder.path)
    assert "--file" in (raised.value.hint or "")
    assert "function-gpu.yaml" in (raised.value.hint or "")


def test_a_folder_described_by_flags(folder: Folder) -> None:
    flags = Function(
        metadata=Metadata(name="x"), spec=Spec(runtime="python:3.9", handler="main:handler")
    )
    loaded = load_function(folder.path, overrides=flags)
    assert loaded.config_path is None
    assert loaded.function.metadata.name == "x"


def test_paths_that_are_not_functions(tmp_path: Path) -> None:
    (tmp_path / "detector").mkdir()
    with pytest.raises(ConfigError, match="does not exist") as raised:
        load_function(tmp_path / "detecto")
    assert "detector?" in (raised.value.hint or "")
    (tmp_path / "code.zip").write_bytes(b"PK")
    with pytest.raises(ConfigError, match="neither a folder") as raised:
        load_function(tmp_path / "code.zip")
    assert "unpack it first" in (raised.value.hint or "")
    with pytest.raises(ConfigError, match="holds no function") as raised:
        load_function(tmp_path)
    assert raised.value.hint == "`fnbuild init` creates one"
    (tmp_path / "detector/function.yaml").write_text(GOOD)
    with pytest.raises(ConfigError, match="holds no function") as raised:
        load_function(tmp_path)
    assert raised.value.hint == f"functions there: {tmp_path / 'detector'}"
    assert check_function(Path("x" * 5000))[1].errors


def test_several_errors_make_one_error(folder: Folder) -> None:
    folder.config.write_text(GOOD + "  replicas: x\n  disable: maybe\n")
    with pytest.raises(ConfigError, match="has 2 errors") as raised:
        load_function(folder.path)
    assert len(raised.value.report.errors) == 2


def test_source_code_in_the_configuration(folder: Folder) -> None:
    code = "# @nuclio.configure\n# function.yaml:\n#   spec:\n#     description: inline\n"
    encoded = base64.b64encode(code.encode()).decode()
    loaded = folder.good(f"{GOOD}  build: {{functionSourceCode: {encoded}}}\n")
    assert loaded.function.spec.description == "inline"


def test_parse_adds_no_defaults() -> None:
    function, report = function_from_text("metadata: {name: x}", "f.yaml")
    assert function == Function(metadata=Metadata(name="x"))
    assert not report.diagnostics


def test_from_raw_raises_with_the_origin() -> None:
    with pytest.raises(ConfigError, match="replicas must be a whole number"):
        function_from_dict({"spec": {"replicas": "x"}}, "the request")
    with pytest.raises(ConfigError, match="must be a mapping"):
        function_from_dict({"spec": []}, "the request")
