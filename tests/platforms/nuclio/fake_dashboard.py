"""The part of the API of Nuclio's dashboard that fnbuild uses (pkg/dashboard/resource)."""

from __future__ import annotations

import base64
import json
import subprocess
import threading
import urllib.error
import urllib.request
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

from tests.platforms.nuclio.fake_nuclio import Nuclio
from tests.platforms.nuclio.fake_objects import RefusedError

Raw = dict[str, Any]


def serve(nuclio: Nuclio) -> ThreadingHTTPServer:
    """Serve the API on a free port until `shutdown`."""

    class Handler(_Api):
        pass

    Handler.nuclio = nuclio
    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    return server


class _Api(BaseHTTPRequestHandler):
    nuclio: Nuclio
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        pass

    def do_GET(self) -> None:
        self._answer()

    do_POST = do_PUT = do_PATCH = do_DELETE = do_OPTIONS = do_GET  # noqa: N815

    def _answer(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        path = urlsplit(self.path).path.rstrip("/")
        self.nuclio.requests.append((self.command, path))
        try:
            self._check_credentials()
            if path.startswith("/api/function_invocations"):
                self._invoke(body)
                return
            self._route([unquote(part) for part in path.split("/")[2:]], body)
        except RefusedError as error:
            self._json(error.status, {"error": str(error), "errorStackTrace": f"{error}\nstack"})
        except AssertionError as error:
            self.nuclio.broken.append(str(error))
            self._json(500, {"error": str(error)})

    def _check_credentials(self) -> None:
        header = self.headers.get("Authorization", "")
        if self.nuclio.credentials:
            expected = "Basic " + base64.b64encode(self.nuclio.credentials.encode()).decode()
            if header != expected:
                raise RefusedError(401, "Unauthorized")
        if self.nuclio.token and header != f"Bearer {self.nuclio.token}":
            raise RefusedError(403, "Missing Authorization header")

    def _namespace(self, kind: str = "Function") -> str:
        return self.headers.get(f"X-Nuclio-{kind}-Namespace") or "nuclio"

    def _route(self, parts: list[str], body: bytes) -> None:
        if parts[:1] == ["functions"]:
            self._functions(parts[1:], body)
        elif parts[:1] == ["projects"]:
            self._projects(body)
        elif parts == ["versions"]:
            self._json(200, {"dashboard": {"label": "1.14.1", "os": "linux"}})
        else:
            self._json(404, {"error": "Not found"})

    def _functions(self, parts: list[str], body: bytes) -> None:
        match [self.command, *parts]:
            case ["GET"]:
                project = self.headers.get("X-Nuclio-Project-Name", "")
                self._json(200, self.nuclio.functions_of(self._namespace(), project))
            case ["GET", name]:
                self._json(200, self.nuclio.get(self._namespace(), name))
            case ["GET", name, "replicas"]:
                self._json(200, self.nuclio.replicas(self._namespace(), name))
            case ["GET", name, "logs", replica]:
                self._logs(name, replica)
            case ["POST" | "PUT", *_]:
                create = self.command == "POST"
                self.nuclio.store_and_deploy(_read(body), create=create)
                self._empty(202)
            case ["PATCH", name]:
                self.nuclio.patch(self._namespace(), name, _read(body))
                self._empty(202)
            case ["DELETE"]:
                header = "X-Nuclio-Delete-Function-Ignore-State-Validation"
                ignore_state = self.headers.get(header) == "true"
                self.nuclio.delete(_read(body), ignore_state=ignore_state)
                self._empty(204)

    def _projects(self, body: bytes) -> None:
        if self.command == "GET":
            self._json(200, self.nuclio.projects_of(self._namespace("Project")))
        elif self.command == "POST":
            self._json(201, self.nuclio.create_project(_read(body)))
        elif self.command == "PUT":
            self.nuclio.replace_project(_read(body))
            self._empty(204)
        else:
            strategy = self.headers.get("X-Nuclio-Delete-Project-Strategy", "restricted")
            self.nuclio.delete_project(_read(body), strategy)
            self._empty(204)

    def _logs(self, name: str, replica: str) -> None:
        if replica not in self.nuclio.replicas(self._namespace(), name)["names"]:
            raise RefusedError(400, f"{replica} replica does not belong to function {name}")
        query = parse_qs(urlsplit(self.path).query)
        arguments = ["docker", "logs"]
        if query.get("follow", ["true"])[0] == "true":
            arguments.append("--follow")
        for key, flag in (("since", "--since"), ("tailLines", "--tail")):
            if key in query:
                arguments += [flag, query[key][0]]
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Connection", "close")
        self.end_headers()
        self.close_connection = True
        process = subprocess.Popen(
            [*arguments, replica], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self.wfile.write(line)
                self.wfile.flush()
        except OSError:
            pass
        finally:
            process.kill()
            process.wait()
            process.stdout.close()

    def _invoke(self, body: bytes) -> None:
        name = self.headers.get("X-Nuclio-Function-Name", "")
        if not name:
            raise RefusedError(400, "Function name must be provided")
        function = self.nuclio.get(self._namespace(), name)
        urls = function["status"].get("internalInvocationUrls") or []
        path = self.headers.get("X-Nuclio-Path", "").lstrip("/")
        headers = {k: v for k, v in self.headers.items() if k not in ("Host", "Content-Length")}
        headers["X-Nuclio-Target"] = name
        if not urls:
            raise RefusedError(500, "Failed to invoke function: no URL")
        request = urllib.request.Request(
            f"http://{urls[0]}/{path}",
            data=body or None,
            headers=headers,
            method=self.command,
        )
        try:
            with urllib.request.urlopen(request, timeout=60) as reply:
                status, reply_headers, answer = reply.status, reply.getheaders(), reply.read()
        except urllib.error.HTTPError as error:
            with error:
                status, reply_headers, answer = (
                    error.code,
                    list(error.headers.items()),
                    error.read(),
                )
        except OSError as error:
            raise RefusedError(500, f"Failed to invoke function: {error}") from None
        self.send_response(status)
        for key, text in reply_headers:
            dropped = ("content-length", "connection", "transfer-encoding", "server", "date")
            if not key.lower().startswith("x-nuclio") and key.lower() not in dropped:
                self.send_header(key, text)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def _json(self, status: int, value: Any) -> None:
        text = json.dumps(value).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def _empty(self, status: int) -> None:
        self.send_response(status)
        if status != 204:
            self.send_header("Content-Length", "0")
        self.end_headers()


def _read(body: bytes) -> Raw:
    try:
        reply = json.loads(body)
    except ValueError:
        raise RefusedError(400, "Failed to parse JSON body") from None
    if not isinstance(reply, dict):
        raise RefusedError(400, "Failed to parse JSON body")
    return reply
