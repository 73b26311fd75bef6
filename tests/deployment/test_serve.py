"""The program `tapetum serve` as a process: right answers for all at once, and a good end."""

import asyncio
import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import time

import httpx
import psutil
import pytest

import load
from load import BROKEN, REFUSED, get, post
from tapetum.inference.classifier import load as load_classifier

CLOSE = 1e-5


def start(*arguments, **environment):
    command = [sys.executable, "-m", "tapetum", "serve", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, env={**os.environ, **environment})


def expected(run, pictures):
    classifier = load_classifier(run)
    return [dict(zip(classifier.classes_, row, strict=True)) for row in classifier.predict_proba(pictures)]


def right(answer, probabilities):
    likeliest = max(probabilities, key=probabilities.get)
    close = all(abs(answer["probabilities"][name] - p) < CLOSE for name, p in probabilities.items())
    return close and answer["label"] in (likeliest, "neither") and answer["familiarity"] > 0


def test_a_thousand_mixed_requests_at_once_each_get_their_own_answer(program, served_run, known_pictures):
    chance = random.Random(0)
    known = expected(served_run, known_pictures)
    requests, asked = [], []
    for number in range(1000):
        chosen = chance.choices(range(len(known_pictures)), k=chance.choice([1, 1, 1, 1, 2, 3]))
        asked.append([None if number % 10 == 3 and i == 0 else place for i, place in enumerate(chosen)])
        files = [(f"{number}-{i}", b"junk" if place is None else known_pictures[place]) for i, place in enumerate(asked[-1])]
        requests.append(post(files[0][1]) if len(files) == 1 else post(*swapped(load.form(files))))
    replies = asyncio.run(load.all_at_once(program[0], requests, 1000))
    wrong = []
    for number, (places, reply) in enumerate(zip(asked, replies, strict=True)):
        found = json.loads(reply.body)["answers"]
        fine = [
            "error" in answer if place is None else right(answer, known[place])
            for place, answer in zip(places, found, strict=True)
        ]
        named = len(places) == 1 or [answer["name"] for answer in found] == [f"{number}-{i}" for i in range(len(places))]
        if not (all(fine) and named and reply.status == (422 if places == [None] else 200)):
            wrong.append((number, reply.status, found))
    assert wrong == []
    assert {reply.status for reply in replies} == {200, 422}


def swapped(form):
    body, kind = form
    return body, "/v1/predict", kind


def test_it_speaks_http_as_a_library_knows_it(program, served_run, known_pictures):
    url = f"http://127.0.0.1:{program[0]}"
    with httpx.Client(base_url=url) as client:
        files = [
            ("a", ("cat.png", known_pictures[0])),
            ("b", ('고양이 " \n.png', known_pictures[1])),
            ("c", ("note.txt", b"hello")),
        ]
        found = client.post("/v1/predict", files=files).raise_for_status().json()
        assert [answer.get("label", "no") != "no" for answer in found["answers"]] == [True, True, False]
        assert found["answers"][0]["name"] == "cat.png"
        assert "not a picture" in found["answers"][2]["error"]["message"]
        assert found["model"] == client.get("/v1/model").json()["model"]
        digest = subprocess.run(
            ["sha256sum", served_run / "model.safetensors"], capture_output=True, text=True, check=True
        ).stdout
        assert found["model"] == digest.split()[0]
        assert client.get("/healthz").status_code == client.get("/readyz").status_code == client.head("/").status_code == 200


def test_only_this_machine_can_reach_it(program):
    port, process = program
    listening = [each.laddr for each in psutil.Process(process.pid).net_connections() if each.status == "LISTEN"]
    assert [tuple(address) for address in listening] == [("127.0.0.1", port)]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_under_load_breaks_no_request(served_file, known_pictures, workers):
    with load.served(served_file, "--workers", workers, "--queue", 500) as (port, process):
        replies = asyncio.run(load.until_stopped(port, [post(picture) for picture in known_pictures], process))
        process.wait(30)
        assert process.returncode == 0
        assert process.communicate()[1] == ""
    statuses = [reply.status for reply in replies]
    assert BROKEN not in statuses
    assert set(statuses) <= {200, REFUSED}
    assert statuses.count(200) > 20


def test_workers_answer_alike_count_together_and_are_replaced(served_run, served_file, known_pictures):
    with load.served(served_file, "--workers", 2) as (port, process):
        requests = [post(picture) for picture in known_pictures[:30]]
        replies = asyncio.run(load.all_at_once(port, requests, 10))
        assert [json.loads(reply.body)["answers"][0]["probabilities"] for reply in replies] == [
            pytest.approx(p, abs=CLOSE) for p in expected(served_run, known_pictures[:30])
        ]

        def counted():
            text = asyncio.run(load.one(port, get("/metrics"))).body.decode()
            return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith("tapetum_pictures_total"))

        assert counted() == 30
        before = workers_of(process)
        assert len(before) == 2
        os.kill(before[0], signal.SIGKILL)
        deadline = time.monotonic() + 60
        while len(now := workers_of(process)) < 2 or before[0] in now:
            assert time.monotonic() < deadline
            time.sleep(0.1)
        assert asyncio.run(load.one(port, requests[0])).status == 200


def workers_of(process):
    found = []
    for each in psutil.Process(process.pid).children():
        with contextlib.suppress(psutil.Error):  # it has just ended
            found += [each.pid] if "spawn_main" in " ".join(each.cmdline()) else []
    return found


def test_ctrl_c_ends_it_cleanly(served_file):
    with load.served(served_file) as (_, process):
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=30)
        assert (process.returncode, err) == (0, "")
    assert out.splitlines()[0].startswith("serving ")
    assert "curl -F pictures=@PICTURE http://127.0.0.1:" in out
    assert "Ctrl-C" in out


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["RUN", "--port", "TAKEN"], "Address already in use"),
        (["RUN", "--port", "70000"], "--port is 70000"),
        (["RUN", "--host", "no.such.host.invalid", "--port", "0"], "is no address"),
        (["RUN", "--workers", "0"], "--workers is 0"),
        (["RUN", "--port", "0", "--reject", "0.0001"], "validation pictures cannot tell so small a share"),
        (["RUN", "--port", "0", "--token", "two words"], "the token holds spaces"),
        (["/no/such/file.onnx", "--port", "0"], "does not exist"),
        (["/no/such/file.onnx", "--port", "0", "--workers", "2"], "does not exist"),
    ],
)
def test_what_cannot_be_served_is_said_in_a_sentence(program, served_file, arguments, sentence):
    put = {"RUN": served_file, "TAKEN": program[0]}
    ended = start(*(put.get(word, word) for word in arguments))
    assert ended.returncode == 2
    said = ended.stderr.splitlines()
    assert len({line for line in said if line}) == 1
    assert sentence in ended.stderr
    assert "Traceback" not in ended.stderr


def test_a_token_from_the_environment_is_asked_for_and_never_said(served_file, monkeypatch):
    monkeypatch.setenv("TAPETUM_TOKEN", "swordfish")
    with load.served(served_file) as (port, process):
        assert asyncio.run(load.one(port, get("/v1/model"))).status == 401
        assert asyncio.run(load.one(port, get("/v1/model", "Authorization: Bearer swordfish"))).status == 200
        assert not any("torch" in each.path for each in psutil.Process(process.pid).memory_maps())
        process.terminate()
        out, err = process.communicate(timeout=30)
    assert "swordfish" not in out + err


def test_beyond_loopback_a_token_is_made_up(served_file):
    with load.served(served_file, "--host", "0.0.0.0", "--json") as (port, process):
        line = json.loads(process.stdout.readline())
        assert len(line["token"]) > 30
        assert asyncio.run(load.one(port, get("/v1/model"))).status == 401
        assert asyncio.run(load.one(port, get("/v1/model", f"Authorization: Bearer {line['token']}"))).status == 200


HELP = """
import sys
sys.argv = ["tapetum", "serve", "--help"]
from tapetum.__main__ import main
try:
    main()
except SystemExit:
    print(sorted({"torch", "fastapi", "uvicorn", "captum", "prometheus_client"} & set(sys.modules)))
"""


def test_help_imports_nothing_heavy():
    said = subprocess.run([sys.executable, "-c", HELP], capture_output=True, text=True, check=True).stdout
    assert said.splitlines()[-1] == "[]"


def test_a_missing_package_is_named_with_what_installs_it(served_run):
    hide = "import importlib.util as u, sys; f = u.find_spec; u.find_spec = lambda n, *a: None if n == 'uvicorn' else f(n, *a)"
    program = f"{hide}; sys.argv = ['tapetum', 'serve', {str(served_run)!r}]; from tapetum.__main__ import main; main()"
    ended = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (ended.returncode, ended.stderr.strip()) == (
        2,
        "tapetum: serving needs uvicorn, which is not installed. Install it: pip install 'tapetum[serve]'",
    )
