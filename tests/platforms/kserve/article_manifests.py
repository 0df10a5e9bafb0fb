"""Manifests of articles about KServe, as tests read them."""

TORCHSERVE = """\
apiVersion: "serving.kserve.io/v1beta1"
kind: "InferenceService"
metadata:
  annotations:
    isdecar.istio.is/inject: "false"
  name: "pipeline-test"
spec:
  predictor:
    model:
      modelFormat:
        name: pytorch
      storageUri: "gs://pipeline_kserve_test_01/dir/gs"
"""

SKLEARN = """\
apiVersion: serving.kserve.io/v1beta1
kind: InferenceService
metadata:
  name: example-sklearn-isvc
spec:
  predictor:
    model:
      modelFormat:
        name: sklearn
      storageUri: s3://bucket/sklearn/model.joblib
      runtime: example-runtime
"""
