"""Judges: the lines that Prometheus reads, counted by hand; with workers in processes of their own."""

import os
import re
import subprocess
import sys
import time
from pathlib import Path

from tapetum.deployment.metrics import CONTENT_TYPE, Metrics, forget


def lines(text):
    """Name with labels, and value."""
    pairs = [line.rsplit(" ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: float(value) for name, value in pairs}


def test_requests_are_counted_by_route_and_answer_and_two_servers_apart():
    metrics, other = Metrics(1), Metrics(1)
    for route, status, times in (("/v1/predict", 200, 3), ("/v1/predict", 503, 1), ("other", 404, 2)):
        for _ in range(times):
            metrics.answered(route, status, time.perf_counter())
    metrics.pictures.labels("neither").inc(5)
    found = lines(metrics.text().decode())
    assert {name: value for name, value in found.items() if name.startswith("tapetum_requests_total")} == {
        'tapetum_requests_total{route="/v1/predict",status="200"}': 3,
        'tapetum_requests_total{route="/v1/predict",status="503"}': 1,
        'tapetum_requests_total{route="other",status="404"}': 2,
    }
    assert found['tapetum_pictures_total{result="neither"}'] == 5
    assert found["tapetum_refused_total"] == found["tapetum_places_taken"] == 0
    assert ("process_resident_memory_bytes" in found) is Path("/proc/self/stat").exists()
    assert not [name for name in lines(other.text().decode()) if name.startswith("tapetum_requests_total")]
    assert CONTENT_TYPE == "text/plain; version=0.0.4; charset=utf-8"


def test_a_request_lasts_from_its_beginning():
    """One of 15 seconds is above the bound of 10 and below that of 30."""
    metrics = Metrics(1)
    metrics.answered("/", 200, time.perf_counter() - 15)
    found = lines(metrics.text().decode())
    buckets = {name: count for name, count in found.items() if name.startswith("tapetum_request_seconds_bucket")}
    filled = {float(re.search('le="(.*?)"', name)[1]) for name, count in buckets.items() if count}
    assert filled == {30, float("inf")}
    assert {float(re.search('le="(.*?)"', name)[1]) for name in buckets} >= {0.1, 1, 10}
    assert 15 <= found['tapetum_request_seconds_sum{route="/"}'] < 30


WORKER = """
import os, sys, time
from tapetum.deployment.metrics import Metrics, forget
metrics = Metrics(2)
metrics.places.inc(int(sys.argv[1]))
metrics.refused.inc(10 * int(sys.argv[1]))
metrics.answered("/", 200, time.perf_counter())
if len(sys.argv) == 2:
    print(os.getpid())
else:
    print(metrics.text().decode() + "FORGOTTEN")
    forget(int(sys.argv[2]))
    print(metrics.text().decode())
"""


def test_workers_are_summed_up_and_one_that_has_ended_holds_no_places(tmp_path):
    """What it has counted stays counted; what it had at the moment of its end goes with it."""
    environment = {**os.environ, "PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}

    def worker(*arguments):
        command = [sys.executable, "-c", WORKER, *arguments]
        return subprocess.run(command, capture_output=True, text=True, check=True, env=environment).stdout

    ended = worker("3").strip()
    before, after = map(lines, worker("4", ended).split("FORGOTTEN"))
    assert (before["tapetum_places_taken"], after["tapetum_places_taken"]) == (7, 4)
    for found in (before, after):
        assert found["tapetum_refused_total"] == 70
        assert found['tapetum_requests_total{route="/",status="200"}'] == 2
        assert found['tapetum_request_seconds_count{route="/"}'] == 2


def test_a_single_process_has_no_worker_to_forget(monkeypatch):
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    metrics = Metrics(1)
    metrics.places.inc(2)
    forget(os.getpid())
    assert lines(metrics.text().decode())["tapetum_places_taken"] == 2
