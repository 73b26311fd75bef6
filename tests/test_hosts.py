"""Two machines on one cable: network namespaces of this one. Judges: a training of one process, and the clock."""

import os
import re
import shutil
import subprocess
import sys
import time

import pytest

from conftest import write_stripes
from launching import QUICK, ROOT, distance, environment
from tapetum.__main__ import main

FIRST, SECOND = "10.201.7.1", "10.201.7.2"
FLAGS = [*QUICK, "--model", "lenet", "--start-size", "32", "--optimizer", "sgd", "--lr", "0.05", "--precision", "float32"]


def ip(*arguments):
    return subprocess.run(["ip", *arguments], capture_output=True, text=True, check=True)


class Hosts:
    """Namespaces with an address each; nothing else leads in or out."""

    def __init__(self, folder):
        self.folder, self.running = folder, []
        self.names = [f"tapetum-{os.getpid()}-{number}" for number in (1, 2)]

    def connect(self):
        for name in self.names:
            ip("netns", "add", name)
        ip("link", "add", "tap1", "netns", self.names[0], "type", "veth", "peer", "name", "tap2", "netns", self.names[1])
        for number, address in ((1, FIRST), (2, SECOND)):
            host = ("-n", self.names[number - 1])
            ip(*host, "addr", "add", f"{address}/24", "dev", f"tap{number}")
            ip(*host, "link", "set", "lo", "up"), ip(*host, "link", "set", f"tap{number}", "up")

    def start(self, number, *command):
        """A command on a host, which has a cache of its own."""
        more = {"TAPETUM_CACHE": str(self.folder / f"cache-{number}"), "GLOO_SOCKET_IFNAME": f"tap{number}"}
        with (self.folder / f"said-{number}").open("w") as said:
            process = subprocess.Popen(
                ["ip", "netns", "exec", self.names[number - 1], *map(str, command)],
                stdout=said, stderr=said, env=environment(**more), cwd=ROOT,
            )  # fmt: skip
        self.running.append(process)
        return process

    def torchrun(self, number, *arguments):
        """A host's part of a job of one process on each, as docs/scaling.md writes it."""
        address = (FIRST, SECOND)[number - 1]
        launch = ["-m", "torch.distributed.run", "--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d"]
        launch += ["--rdzv-id", "test", "--rdzv-endpoint", f"{FIRST}:29500", "--local-addr", address]
        launch += ["--rdzv-conf", f"is_host={int(number == 1)}", "--monitor-interval", "0.1"]
        return self.start(number, sys.executable, *launch, "-m", "tapetum", *arguments)

    def said(self, number):
        return (self.folder / f"said-{number}").read_text()

    def close(self):
        for process in self.running:
            process.kill()
            process.wait()
        for name in self.names:
            subprocess.run(["ip", "netns", "del", name], capture_output=True, check=False)  # where there is none, none goes


@pytest.fixture
def hosts(tmp_path):
    if not shutil.which("ip"):
        pytest.skip("no network namespaces: there is no `ip` here")
    found = Hosts(tmp_path)
    try:
        found.connect()
        yield found
    except subprocess.CalledProcessError as refused:
        pytest.skip(f"no network namespaces: {refused.stderr.strip()}")
    finally:
        found.close()


def test_two_hosts_train_from_shards_of_one_of_them_as_one_process_does_from_files(hosts, tmp_path, monkeypatch, one_thread):
    data = write_stripes(tmp_path / "data", 20)
    for arguments in (
        ["train", data, "--out", tmp_path / "one", *FLAGS],
        ["pack", data, tmp_path / "shards", "--shard-mb", "0.05"],
    ):
        monkeypatch.setattr(sys, "argv", ["tapetum", *map(str, arguments)])
        main()
    hosts.start(2, sys.executable, "-m", "http.server", 8080, "--bind", SECOND, "--directory", tmp_path / "shards")
    each = [
        hosts.torchrun(number, "train", f"http://{SECOND}:8080", "--out", tmp_path / f"two-{number}", *FLAGS)
        for number in (1, 2)
    ]
    assert [process.wait(120) for process in each] == [0, 0], hosts.said(1)[-2000:] + hosts.said(2)[-2000:]
    assert "2 processes" in hosts.said(1)
    assert not (tmp_path / "two-2").exists()  # the first process writes
    assert distance(tmp_path / "one", tmp_path / "two-1") < 1e-4


@pytest.mark.slow
def test_a_pulled_cable_ends_both_and_each_says_whom_it_lost(hosts, tmp_path):
    data = write_stripes(tmp_path / "data", 20)
    endless = ["train", data, "--out", tmp_path / "run", *FLAGS, "--epochs", "100000", "--keep", "best"]
    each = [hosts.torchrun(number, *endless) for number in (1, 2)]
    until = time.monotonic() + 120
    while not (tmp_path / "run" / "log.jsonl").exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert (tmp_path / "run" / "log.jsonl").exists(), hosts.said(1)[-2000:]
    ip("-n", hosts.names[1], "link", "set", "tap2", "down")
    begun = time.monotonic()
    sentences = (r"tapetum: rank 1 of 2 on \S+ has not been heard of", r"tapetum: rank 1 of 2 on \S+ does not reach the first")
    for number, sentence in enumerate(sentences, 1):
        while not re.search(sentence, hosts.said(number)) and time.monotonic() < begun + 40:
            time.sleep(0.2)
        assert re.search(sentence, hosts.said(number)), hosts.said(number)[-2000:]
    assert time.monotonic() - begun < 20
    assert each[0].wait(20) != 0  # the second's torchrun waits for the first's for a minute more
