#!/usr/bin/env bash
# Makes the base images, then deploys every function below a folder: by default, all that are here.
# The names of images begin with $BASES, and functions go into the network $NETWORK.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
below=${1:-$here}

export DOCKER_BUILDKIT=1

docker build -t "$BASES.openvino.base" "$here/openvino/base"
fnbuild create project cvat --platform local

shopt -s globstar
for config in "$below"/**/function.yaml; do
    folder=$(dirname "$config")
    if [ -f "$folder/Dockerfile" ]; then
        parts=$(dirname "$(realpath --relative-to="$here" "$folder")")
        docker build -t "$BASES.${parts//\//.}.base" "$folder"
    fi
    echo "$folder is deployed"
    fnbuild deploy --project-name cvat --path "$folder" --file "$config" --platform local \
        --env CVAT_FUNCTIONS_REDIS_HOST=cvat_redis_ondisk \
        --env CVAT_FUNCTIONS_REDIS_PORT=6666 \
        --platform-config "{\"attributes\": {\"network\": \"$NETWORK\"}}"
done

fnbuild create project cvat --platform local
fnbuild get function --platform local
