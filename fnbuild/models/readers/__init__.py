"""Functions from models: what a file says about itself, and the function of the library for it."""
