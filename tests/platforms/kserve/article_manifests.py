"""Manifests of articles about KServe, as tests read them."""

TORCHSERVE_CONFIG = """\
inference_address=http://0.0.0.0:8085
management_address=http://0.0.0.0:8085
metrics_address=http://0.0.0.0:8082
grpc_inference_port=7070
grpc_management_port=7071
enable_metrics_api=true
metrics_format=prometheus
model_store=/mnt/models/model-store
install_py_dep_per_model=true
model_snapshot={"name": "startup.cfg", "modelCount": 1, "models": {"pipeline": {"1.0": \
{"defaultVersion": true, "marName": "pipeline.mar", "minWorkers": 1, "maxWorkers": 3, \
"batchSize": 4, "maxBatchDelay": 100, "responseTimeout": 120}}}}
"""

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

# The image is a placeholder.
KFSERVING = """\
apiVersion: "serving.kubeflow.org/v1alpha2"
kind: "InferenceService"
metadata:
  name: "mobilenet"
spec:
  default:
    predictor:
      minReplicas: 1
      tensorflow:
        storageUri: "pvc://model-pvc/saved_models/"
    transformer:
      minReplicas: 1
      custom:
        container:
          image: {image}
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
