"""What runs beside the handler, and the only part of fnbuild that goes into images.

Everything in here runs on CPython 3.6 and later and needs nothing but an interpreter.
"""
