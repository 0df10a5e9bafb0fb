"""From a function's folder to an image: Dockerfile, context, engines, names."""
