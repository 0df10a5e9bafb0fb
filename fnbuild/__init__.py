"""fnbuild turns a folder with function.yaml and main.py into a running service.

This module imports nothing on purpose: function images carry it together with
`fnbuild.runtime` and `fnbuild.vision`, under whatever interpreter they have.
"""

__version__ = "0.1.0"
