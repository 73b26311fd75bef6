"""A web server on loopback for a folder, that can be told to misbehave."""

import contextlib
import http.server
import threading
import time
from pathlib import Path


class Handler(http.server.BaseHTTPRequestHandler):
    """GET, with Range or without; `server.wrong` maps a file name to a list of what goes wrong, one thing a request."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        from urllib.parse import unquote

        server, name = self.server, self.path.rpartition("/")[2]
        server.asked.append((name, self.headers.get("Range")))
        wrong = server.wrong.get(name) or [None]
        fault = wrong.pop(0) if len(wrong) > 1 else wrong[0]
        path = server.folder / unquote(self.path).lstrip("/")
        if isinstance(fault, int) or not path.is_file():
            return self.send_error(fault or 404)
        data = path.read_bytes()
        if fault == "changed":
            data = data[:-2000] + b"\1" * 2000
        start = 0
        if server.ranges and (asked := self.headers.get("Range")):
            start = int(asked.removeprefix("bytes=").rstrip("-"))
            if start >= len(data):
                return self.send_error(416)
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
        else:
            self.send_response(200)
        if fault == "longer":
            data += b"more"
        self.send_header("Content-Length", str(len(data) - start))
        self.end_headers()
        if fault == "cut":
            self.wfile.write(data[start : start + (len(data) - start) // 2])
            self.close_connection = True
        elif fault == "silent":
            self.wfile.write(data[start : start + 100])
            self.wfile.flush()
            time.sleep(server.silence)
            self.close_connection = True
        else:
            self.wfile.write(data[start:])

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(folder: Path, ranges: bool = True):
    """The server, at `server.url`; `server.asked` are the requests (file name, Range) so far."""
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.folder, server.ranges, server.asked, server.wrong, server.silence = folder, ranges, [], {}, 1.0
    server.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
