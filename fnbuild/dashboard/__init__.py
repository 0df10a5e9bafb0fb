"""The dashboard: Nuclio's API for the functions of every platform, and a web page.

`app.create_app` creates the application from the endpoints of all modules; `server.serve` listens.
"""
