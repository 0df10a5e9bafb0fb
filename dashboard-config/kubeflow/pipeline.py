"""A pipeline with the deploy step: the trained model and the model store are in two claims."""

import sys
from pathlib import Path

from kfp import compiler, components, dsl, kubernetes

publish = components.load_component_from_file(str(Path(__file__).with_name("component.yaml")))


@dsl.pipeline(name="publish-embedding")
def pipeline(namespace: str = "default"):
    """Deploy the model in the claim `model-pvc`."""
    step = publish(namespace=namespace)
    # A step with the inputs of an earlier one would be skipped, although the model has changed.
    step.set_caching_options(False)
    kubernetes.mount_pvc(step, pvc_name="model-pvc", mount_path="/model")
    kubernetes.mount_pvc(step, pvc_name="serving-model-pvc", mount_path="/deploy-model")


if __name__ == "__main__":
    compiler.Compiler().compile(pipeline, sys.argv[1])
