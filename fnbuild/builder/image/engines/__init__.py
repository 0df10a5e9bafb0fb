"""The container engines: docker, podman, buildah."""
