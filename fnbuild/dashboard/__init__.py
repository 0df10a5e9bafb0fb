"""The dashboard: Nuclio's API over every platform that is there, and a web page.

`app.create_app` assembles it from the endpoints of its modules; `server.serve` listens.
"""
