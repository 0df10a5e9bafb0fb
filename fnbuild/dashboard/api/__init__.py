"""Endpoints of the HTTP API: each module lists its own as `ENDPOINTS`."""
