"""What the server counts, for Prometheus (https://prometheus.io/docs/instrumenting/exposition_formats/).

With several workers each writes its numbers to a folder of its supervisor's (PROMETHEUS_MULTIPROC_DIR), and whichever is asked
sums them up.
"""

import os
import time

import prometheus_client as prometheus
from prometheus_client import multiprocess

CONTENT_TYPE = prometheus.CONTENT_TYPE_PLAIN_0_0_4
# The status under which a request counts whose client hung up before its answer (nginx calls it so, too).
GONE = 499
_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)


class Metrics:
    """The numbers of one server."""

    def __init__(self, workers: int) -> None:
        own = prometheus.CollectorRegistry()
        shared = None if workers > 1 else own
        self.requests = prometheus.Counter(
            "tapetum_requests", "Requests by their answer; 499: who asked hung up before", ["route", "status"], registry=own
        )
        self.seconds = prometheus.Histogram(
            "tapetum_request_seconds",
            "From a request's head to the end of its answer",
            ["route"],
            registry=own,
            buckets=_SECONDS,
        )
        self.pictures = prometheus.Counter(
            "tapetum_pictures", "Pictures by what came of them: answered, neither, unreadable", ["result"], registry=own
        )
        self.refused = prometheus.Counter("tapetum_refused", "Requests for which there was no place", registry=own)
        self.places = prometheus.Gauge(
            "tapetum_places_taken", "Pictures between arrival and answer", registry=own, multiprocess_mode="livesum"
        )
        self.batch = prometheus.Histogram(
            "tapetum_batch_pictures", "Pictures computed at once", registry=own, buckets=(1, 2, 4, 8, 16, 32, 64)
        )
        if shared is not None:
            prometheus.ProcessCollector(registry=shared)
        self._shared = shared

    def text(self) -> bytes:
        """All of it in Prometheus' text format."""
        registry = self._shared
        if registry is None:
            registry = prometheus.CollectorRegistry()
            multiprocess.MultiProcessCollector(registry)
        return prometheus.generate_latest(registry)

    def answered(self, route: str, status: int, begun: float) -> None:
        """Count a request that began at `begun` (time.perf_counter)."""
        self.requests.labels(route, str(status)).inc()
        self.seconds.labels(route).observe(time.perf_counter() - begun)


def forget(pid: int) -> None:
    """A worker has ended: what it had at the moment counts no more."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        multiprocess.mark_process_dead(pid)
