"""A door in front of the real S3 server that can be told to fail: lose a write, cut an answer, stop answering."""

import http.client
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

Fault = str | Callable[[], None] | None
"""What happens to one request: None (it passes), `lost` (200, but the server never hears of it), `unavailable` (503),
`unanswered` (the server does it, the answer is cut), `cut` (half of the answer's body arrives), or something to do
first, after which it passes."""
Rule = Callable[[str, str], Fault]


class Door:
    """The address to use as S3 endpoint, the rule that decides each request's fate, and what passed."""

    def __init__(self, address: str) -> None:
        """`address` is the door's own."""
        self.address = address
        self.rule: Rule = lambda method, path: None
        self.seen: list[tuple[str, str, str | None]] = []

    def fail(self, method: str, ending: str, fault: Fault, times: int = 1000) -> None:
        """Have requests of a method to keys with this ending fail, the first `times` of them."""
        left = [times]

        def rule(asked: str, path: str) -> Fault:
            if asked != method or not path.endswith(ending) or left[0] == 0:
                return None
            left[0] -= 1
            return fault

        self.rule = rule

    def kill_at(self, method: str, ending: str, code: str, *arguments: str) -> None:
        """Run Python code in a process of its own and kill it (SIGKILL) while it waits for such a request's answer."""
        reached, over = threading.Event(), threading.Event()

        def stall() -> None:
            reached.set()
            over.wait()

        self.fail(method, ending, stall)
        child = subprocess.Popen([sys.executable, "-c", code, *arguments])
        try:
            while not reached.wait(0.5):
                assert child.poll() is None, f"it ended without asking for {method} {ending}"
        finally:
            child.kill()
            child.wait()
            self.rule = lambda method, path: None
            over.set()

    def count(self, method: str, ending: str) -> int:
        """How many requests of a method went to keys with this ending."""
        return sum(asked == method and path.endswith(ending) for asked, path, _ in self.seen)


@contextmanager
def faulty_s3(behind: str) -> Iterator[Door]:
    """Open a door in front of the S3 server at `behind` (http://host:port)."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(behind))
    server.daemon_threads = True
    server.door = Door(f"http://127.0.0.1:{server.server_port}")  # type: ignore[attr-defined]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server.door  # type: ignore[attr-defined]
    finally:
        server.shutdown()
        server.server_close()


def _handler(behind: str) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *arguments: object) -> None:
            pass

        def handle_any(self) -> None:
            path = urlsplit(self.path).path
            door: Door = self.server.door  # type: ignore[attr-defined]
            body = self.read_body()
            door.seen.append((self.command, path, self.headers.get("Range")))
            fault = door.rule(self.command, path)
            if callable(fault):
                fault()
            if fault in ("lost", "unavailable"):
                self.send_response(200 if fault == "lost" else 503)
                self.send_header("ETag", '"0"')
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            upstream = http.client.HTTPConnection(urlsplit(behind).netloc, timeout=60)
            try:
                # The signature covers the Host header, so it stays the door's.
                upstream.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
                for name, value in self.headers.items():
                    if name.lower() not in ("expect", "transfer-encoding"):
                        upstream.putheader(name, value)
                if self.headers.get("Transfer-Encoding"):
                    upstream.putheader("Content-Length", str(len(body)))
                upstream.endheaders(body)
                answer = upstream.getresponse()
                content = answer.read()
            finally:
                upstream.close()
            if fault == "unanswered":
                return self.hang_up()
            self.send_response_only(answer.status, answer.reason)
            for name, value in answer.getheaders():
                if name.lower() not in ("transfer-encoding", "content-length", "connection"):
                    self.send_header(name, value)
            length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
            self.send_header("Content-Length", length or "0")
            self.end_headers()
            self.wfile.write(content[: len(content) // 2] if fault == "cut" else content)
            if fault == "cut":
                self.hang_up()

        def hang_up(self) -> None:
            self.wfile.flush()
            self.close_connection = True
            self.connection.shutdown(socket.SHUT_RDWR)

        def read_body(self) -> bytes:
            if self.headers.get("Transfer-Encoding", "").lower() == "chunked":
                parts = []
                while size := int(self.rfile.readline().split(b";")[0], 16):
                    parts.append(self.rfile.read(size))
                    self.rfile.readline()
                self.rfile.readline()
                return b"".join(parts)
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

    for method in ("GET", "PUT", "HEAD", "POST", "DELETE"):
        setattr(Handler, f"do_{method}", Handler.handle_any)
    return Handler
