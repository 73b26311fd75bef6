"""`tapetum serve`: an address, one or several workers that share it, and an end without broken answers."""

import contextlib
import importlib.util
import json
import logging
import multiprocessing
import multiprocessing.connection
import os
import secrets
import signal
import socket
import sys
import tempfile
import threading
import time
from dataclasses import dataclass, field
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tapetum.deployment.limits import Limits
from tapetum.errors import UserError

if TYPE_CHECKING:
    import uvicorn

    from tapetum.deployment.service import Service

# A worker that ends within so many seconds of its start, so many times in a row, would do so for ever.
_SOON, _OFTEN = 10.0, 3
_NEEDED = ("fastapi", "uvicorn", "httptools", "python_multipart", "prometheus_client")


@dataclass(frozen=True)
class Serving:
    """What is served, where, and to whom."""

    run: Path
    host: str = "127.0.0.1"
    port: int = 8000
    workers: int = 1
    token: str = ""
    """What everybody must know who asks; "": nothing on a loopback address, elsewhere one is made up."""
    reject: float = 0.0
    queue: int = 0
    """Pictures that a worker lets in before their answers are out; 0: 64, or fewer if they take longer than half a second."""
    json: bool = False
    limits: Limits = field(default_factory=Limits)


def serve(serving: Serving) -> int:
    """Serve until Ctrl-C or SIGTERM; requests that were begun are answered before it ends. The exit code comes back.

    Raises:
        UserError: the address cannot be had, there is no such run, or a package is missing.
    """
    missing = [name for name in _NEEDED if importlib.util.find_spec(name) is None]
    if missing:
        raise UserError(f"serving needs {missing[0]}, which is not installed. Install it: pip install 'tapetum[serve]'")
    with _listening(serving.host, serving.port) as sock:
        token, made = _token(serving)
        if serving.workers == 1:
            _work(serving, sock, token, made, announce=True)
            return 0
        with tempfile.TemporaryDirectory(prefix="tapetum-metrics-") as folder:
            os.environ["PROMETHEUS_MULTIPROC_DIR"] = folder  # read when prometheus_client is imported
            return _supervise(serving, sock, token, made)


def _listening(host: str, port: int) -> socket.socket:
    """A bound socket; it listens when a worker does."""
    try:
        family, kind, protocol, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        sock = socket.socket(family, kind, protocol)
    except (OSError, UnicodeError, OverflowError) as error:
        raise UserError(f"--host {host} --port {port} is no address ({error}). Expected such as 127.0.0.1 and 8000.") from error
    try:
        # On Windows the same option would let a second server take the port.
        option = socket.SO_REUSEADDR if os.name == "posix" else socket.SO_EXCLUSIVEADDRUSE  # type: ignore[attr-defined]
        sock.setsockopt(socket.SOL_SOCKET, option, 1)
        sock.bind(address)
        sock.listen(2048)
    except OSError as error:
        sock.close()
        raise UserError(
            f"{host}:{port} cannot be listened on ({error.strerror}). Stop what uses it, or choose another --port."
        ) from error
    return sock


def _token(serving: Serving) -> tuple[str, bool]:
    """The token, and whether it was made up for this time."""
    from tapetum.deployment.guard import is_loopback

    given = serving.token or os.environ.get("TAPETUM_TOKEN", "")
    if given and (not given.isascii() or not given.isprintable() or " " in given):
        raise UserError("the token holds spaces or letters beyond ASCII: expected letters, digits and signs.")
    if given or is_loopback(serving.host):
        return given, False
    return secrets.token_urlsafe(24), True


def _work(serving: Serving, sock: socket.socket, token: str, made: bool, announce: bool) -> None:
    """Load the classifier and serve it in this process until a signal ends it."""
    from tapetum.inference.loading import load

    answerer = load(serving.run)
    answerer.refuse_reject(serving.reject)

    from tapetum.deployment.connections import Server
    from tapetum.deployment.service import Service

    _more_files()
    # Each operation of the network gives the interpreter away and wants it back. By default the loop, busy with refusals, may
    # keep it for 5 ms each time.
    sys.setswitchinterval(0.0002)
    service = Service(answerer, serving.run, serving.reject, serving.queue, serving.workers, serving.limits)
    if announce:
        service.on_ready = lambda: _announce(serving, sock, service.model, token if made else "", bool(token))
    Server(configured(service, token), service).run([sock])
    if service.failed is not None:
        raise service.failed


def configured(service: "Service", token: str) -> "uvicorn.Config":
    """uvicorn's settings for a service."""
    import uvicorn

    from tapetum.deployment.connections import connection_class
    from tapetum.deployment.routes import create_app

    logging.getLogger("python_multipart").setLevel(logging.ERROR)  # what is wrong with a form, its sender is told
    limits = service.limits
    return uvicorn.Config(
        create_app(service, token),
        http=connection_class(limits),
        ws="none",
        loop="asyncio",
        lifespan="on",
        log_level="error",
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=limits.idle_seconds,
        timeout_graceful_shutdown=int(limits.draining_seconds),
    )


def _supervise(serving: Serving, sock: socket.socket, token: str, made: bool) -> int:
    """Start the workers, replace those that die, and stop them all at a signal."""
    from tapetum.deployment.metrics import forget

    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: stop.set())
    context = multiprocessing.get_context("spawn")

    def start(announce: bool = False) -> BaseProcess:
        worker = context.Process(target=_worker, args=(serving, sock, token, made, announce))
        worker.start()
        return worker

    speaker = start(announce=True)
    workers = {worker: time.monotonic() for worker in (speaker, *(start() for _ in range(1, serving.workers)))}
    code = soon = 0
    while not stop.is_set() and not code:
        ended = multiprocessing.connection.wait([worker.sentinel for worker in workers], timeout=0.2)
        for worker in [each for each in workers if each.sentinel in ended]:
            lived = time.monotonic() - workers.pop(worker)
            worker.join()
            forget(worker.pid or 0)
            soon = soon + 1 if lived < _SOON else 0
            if stop.is_set():
                break
            if worker.exitcode == UserError.exit_code or soon >= _OFTEN:
                code = UserError.exit_code if worker.exitcode == UserError.exit_code else 1
                break
            print(f"tapetum: worker {worker.pid} ended ({worker.exitcode}); another one takes its place", file=sys.stderr)
            another = start(announce=worker is speaker)  # where it can be reached may not have been told yet
            speaker = another if worker is speaker else speaker
            workers[another] = time.monotonic()
    sock.close()  # the workers take the last who stand at it
    for worker in workers:
        worker.terminate()
    for worker in workers:
        worker.join(serving.limits.draining_seconds + 10)
        worker.kill()
    return code


def _worker(serving: Serving, sock: socket.socket, token: str, made: bool, announce: bool) -> None:
    """One worker process. It ends with its supervisor."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def follow() -> None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=follow, daemon=True).start()
    try:
        _work(serving, sock, token, made, announce)
    except UserError as error:
        print(f"tapetum: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:  # while it was loading
        sys.exit(0)


def _announce(serving: Serving, sock: socket.socket, model: dict[str, Any], made: str, guarded: bool) -> None:
    """Say where it is, how to try it, and how to end it."""
    host, port = sock.getsockname()[:2]
    host = {"0.0.0.0": socket.gethostname(), "::": socket.gethostname()}.get(host, f"[{host}]" if ":" in host else host)
    url = f"http://{host}:{port}"
    if serving.json:
        print(json.dumps({"url": url, "model": model["model"], "token": made}, ensure_ascii=False), flush=True)
        return
    classes = ", ".join(model["classes"][:6]) + (", ..." if len(model["classes"]) > 6 else "")
    key = ' -H "Authorization: Bearer $TAPETUM_TOKEN"' if guarded else ""
    print(f"serving   {serving.run} ({classes})")
    print(f"page:     {url}/" + ("  (any name; the token is the password)" if guarded else ""))
    if made:
        print(f"token:    {made}  (made up for this time; TAPETUM_TOKEN sets one)")
    print(f"try:      curl{key} -F pictures=@PICTURE {url}/v1/predict")
    print("stop:     Ctrl-C", flush=True)


# What macOS lets a process open at most, whatever else it says (OPEN_MAX).
_MAC_FILES = 10_240


def _more_files() -> None:
    """As many open connections as the system lets us have."""
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        wanted = min(most, _MAC_FILES) if sys.platform == "darwin" else most  # which says "unlimited", and refuses it
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, most))
