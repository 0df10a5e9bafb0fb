#!/usr/bin/env bash
# Deploys the GPU variant of every function below a folder that has one.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
below=${1:-$here}

fnbuild create project cvat --platform local

shopt -s globstar
for config in "$below"/**/function-gpu.yaml; do
    fnbuild deploy --project-name cvat --path "$(dirname "$config")" --file "$config" \
        --platform local \
        --env CVAT_FUNCTIONS_REDIS_HOST=cvat_redis_ondisk \
        --env CVAT_FUNCTIONS_REDIS_PORT=6666 \
        --platform-config "{\"attributes\": {\"network\": \"$NETWORK\"}}"
done

fnbuild get function --platform local
