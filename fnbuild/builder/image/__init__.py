"""From a function's folder to an image: base image, recipe, Dockerfile, build context, engines."""
