"""From a function's folder to an image: base image, recipe, Dockerfile, build context, engines.

A directive is a line that the user adds to the Dockerfile, an instruction any line of a Dockerfile.
A command is one simple command of a RUN, and a step is what an engine reports of an instruction.
"""
