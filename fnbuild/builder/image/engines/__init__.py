"""The engines behind one name: docker, podman, buildah."""
