"""Run a component of Kubeflow Pipelines in a container of the local engine.

run_component.py COMPONENT ARGUMENTS MOUNTS ENVIRONMENT, the last three as JSON
"""

import json
import sys

from docker.types import Mount
from kfp import components, local

component = components.load_component_from_file(sys.argv[1])
arguments, mounts, environment = map(json.loads, sys.argv[2:])
runner = local.DockerRunner(
    mounts=[Mount(target, source, type="bind") for target, source in mounts.items()],
    environment=environment,
    network_mode="host",
)
local.init(runner, pipeline_root="./pipeline-root")
component(**arguments)
