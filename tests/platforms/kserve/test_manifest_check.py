"""`fnbuild validate` of manifests: each problem has its line, whatever the form of the manifest."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from fnbuild.platforms.kserve.manifest_check import check_manifest_file, is_manifest_file
from tests.platforms.kserve.article_manifests import KFSERVING, SKLEARN, TORCHSERVE

MOBILENET = KFSERVING.format(image="example/mobilenet-transformer:1")

RUNTIME = """\
apiVersion: serving.kserve.io/v1alpha1
kind: ServingRuntime
metadata:
  name: example-runtime
spec:
  supportedModelFormats:
    - name: example-format
      version: "1"
      autoSelect: true
  containers:
    - name: kserve-container
      image: examplemodelserver:latest
      args:
        - --model_dir=/mnt/models
        - --http_port=8080
"""

Check = Callable[..., list[str]]


@pytest.fixture
def check(tmp_path: Path) -> Check:
    """Check a text; return `LINE severity[rule]: message` of each problem."""

    def call(text: str) -> list[str]:
        file = tmp_path / "manifest.yaml"
        file.write_text(text)
        assert is_manifest_file(file)
        return [
            f"{item.span and item.span.line} {item.severity}[{item.rule}]: {item.message}"
            + (f" ({item.hint})" if item.hint else "")
            for item in check_manifest_file(file)
        ]

    return call


def test_a_manifest_of_kfserving_is_checked_in_its_own_lines(check: Check) -> None:
    [warning] = check(MOBILENET)
    assert warning.startswith("1 warning[old-api]: apiVersion: no cluster serves")
    wrong = MOBILENET.replace("pvc://model-pvc/saved_models/", "ftp://host/model")
    assert [line for line in check(wrong) if line.startswith("10 error[kserve-rule]")]
    wrong = MOBILENET.replace(
        "          image: ex", "          env: [{name: PYTHONPATH}]\n          image: ex"
    )
    [problem] = check(wrong)[1:]
    assert problem.startswith("15 error[kserve-rule]: spec.transformer.containers[0].env[0]")
    [_, problem] = check(MOBILENET.replace("tensorflow:", "alibi:"))
    assert problem.startswith("7 error[kserve-rule]: spec.default.predictor: alibi cannot be")


def test_a_misspelt_annotation_is_a_warning(check: Check) -> None:
    [warning] = check(TORCHSERVE)
    assert warning.startswith(
        "5 warning[kserve-rule]: metadata.annotations[isdecar.istio.is/inject]"
    )
    assert "did you mean 'sidecar.istio.io/inject'?" in warning


def test_placeholders_are_no_names(check: Check) -> None:
    [_, error] = check(TORCHSERVE.replace("pipeline-test", "{InferenceService_name}"))
    assert error.startswith("6 error[kserve-rule]: metadata.name")


def test_a_runtime_that_does_not_pass_the_models_name_is_a_warning(check: Check) -> None:
    [warning] = check(RUNTIME)
    assert warning.startswith(
        "13 warning[kserve-rule]: spec.containers[0].args: without --model_name"
    )
    assert "--model_name={{.Name}}" in warning
    assert check(RUNTIME + "        - --model_name={{.Name}}\n") == []


def test_a_runtime_of_the_same_file_without_the_models_format_is_an_error(check: Check) -> None:
    named = RUNTIME + "        - --model_name={{.Name}}\n"
    [error] = check(f"# Both\n---\n{named}---\n{SKLEARN}")
    assert error.startswith("30 error[no-runtime]: spec.predictor.model.runtime: ServingRuntime")
    assert "does not support the format sklearn" in error
    assert check(f"{named.replace('example-format', 'sklearn')}---\n{SKLEARN}") == []


def test_runtimes_of_the_same_file_that_select_the_same_format_are_an_error(check: Check) -> None:
    named = RUNTIME + "        - --model_name={{.Name}}\n"
    [error] = check(f"{named}---\n{named.replace('example-runtime', 'other')}")
    assert error.startswith("23 error[kserve-rule]: spec.supportedModelFormats: ServingRuntime")


@pytest.mark.parametrize(
    ("old", "new", "place", "message"),
    [
        ("storageUri:", "storageURI:", "10 error[unknown-key]: spec.predictor.model",
         "has no field 'storageURI' (did you mean storageUri?)"),
        ("name: sklearn", "name: sklearn\n        version: 1.0",
         "10 error[wrong-type]: spec.predictor.model.modelFormat.version",
         'is text, not 1.0 (write it in quotes: "1.0")'),
        ("runtime: example-runtime", "resources: {limits: {cpu: 0.5}}",
         "11 error[wrong-type]: spec.predictor.model.resources.limits.cpu",
         'is a whole number or text, not 0.5 (write it in quotes: "0.5")'),
        ("runtime: example-runtime", "env: [{name: X, value: 1}]",
         "11 error[wrong-type]: spec.predictor.model.env[0].value",
         'is text, not 1 (write it in quotes: "1")'),
        ("    model:", "    minReplicas: many\n    model:",
         "7 error[wrong-type]: spec.predictor.minReplicas", "is a whole number, not 'many'"),
        ("    model:", "    scaleMetric: gpu\n    model:",
         "7 error[invalid-value]: spec.predictor.scaleMetric",
         "'gpu' is not one of cpu, memory, concurrency, rps (did you mean cpu?)"),
        ("    model:", "    logger: {url: http://x}\n    model:",
         "7 error[kserve-rule]: spec.predictor.logger.mode",
         "the mode of the logger is missing (`mode: all`)"),
        ("v1beta1", "v1alpha2", "1 error[api-version]: apiVersion",
         "KServe has no InferenceService in serving.kserve.io/v1alpha2"
         " (write `apiVersion: serving.kserve.io/v1beta1`)"),
        ("predictor:", "predictors:", "6 error[missing]: spec", "has no predictor"),
    ],
)  # fmt: skip
def test_the_structure_is_checked(
    check: Check, old: str, new: str, place: str, message: str
) -> None:
    lines = check(SKLEARN.replace(old, new))
    assert [line for line in lines if line.startswith(place) and line.endswith(message)], lines


def test_rules_of_one_mode_are_warnings_unless_the_manifest_names_it(check: Check) -> None:
    text = SKLEARN.replace("    model:", "    minReplicas: 0\n    model:")
    [warning] = check(text)
    assert warning.startswith(
        "7 warning[kserve-rule]: spec.predictor.minReplicas: in Standard mode"
    )
    mode = "  annotations: {serving.kserve.io/deploymentMode: %s}\nspec:"
    [error] = check(text.replace("spec:", mode % "RawDeployment"))
    assert error.startswith("8 error[kserve-rule]: spec.predictor.minReplicas: 0 needs Knative")
    assert check(text.replace("spec:", mode % "Serverless")) == []


def test_fields_that_functions_lack_are_a_warning(check: Check) -> None:
    text = SKLEARN.replace("    model:", "    hostNetwork: true\n    model:")
    [warning] = check(text)
    assert warning.startswith(
        "6 warning[not-a-function]: spec.predictor: functions have no hostNetwork"
    )


def test_other_objects_of_the_file_are_skipped(check: Check) -> None:
    secret = "apiVersion: v1\nkind: Secret\nmetadata: {name: keys}\n"
    assert check(f"{secret}---\n{MOBILENET}")[0].startswith("5 warning[old-api]")


def test_broken_documents_are_reported_with_their_lines(check: Check) -> None:
    [*_, error] = check(f"{MOBILENET}---\nspec: [\n")
    assert error.startswith("18 error[")
    assert check(SKLEARN + "  name: [\n")[0].startswith("13 error[")
