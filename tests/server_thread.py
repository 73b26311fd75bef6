"""The server in a thread of this process, for odd limits and a look inside."""

import asyncio
import threading
import time
from pathlib import Path

import load
from tapetum.deployment import connections, serve, service
from tapetum.deployment.limits import Limits
from tapetum.inference.loading import load as load_any


class Running:
    """The server in a thread."""

    def __init__(self, run: Path, token: str = "", **options) -> None:
        limits = Limits(**{name: options.pop(name) for name in list(options) if name in Limits.__dataclass_fields__})
        self.sock = serve._listening("127.0.0.1", 0)
        self.port = self.sock.getsockname()[1]
        self.service = service.Service(load_any(run), run, options.pop("reject", 0.0), options.pop("queue", 0), 1, limits)
        self.server = connections.Server(serve.configured(self.service, token), self.service)
        self._thread = threading.Thread(target=lambda: self.server.run([self.sock]))
        self._thread.start()
        while not self.service.ready:
            assert self.service.failed is None
            time.sleep(0.02)

    def ask(self, request: bytes) -> load.Reply:
        return asyncio.run(load.one(self.port, request))

    def stop(self) -> None:
        self.server.should_exit = True
        self._thread.join(30)
        assert not self._thread.is_alive()
