"""Who is let in, how much and how long: rows 10, 11 and 47 to 57 of what servers suffer from, in short."""

import asyncio
import base64
import contextlib
import io
import json
import random
import re
import socket
import time
import zlib

import psutil
import pytest
from PIL import Image

import load
from conftest import SHARED, encoded
from load import form, get, post
from tapetum.deployment.decoders import _Decoder

ROUTES = ["/", "/page.js", "/words.js", "/page.css", "/icon.svg", "/v1/predict", "/v1/explain", "/v1/model", "/metrics"]
ROUTES += ["/openapi.json"]
HEALTH = ["/healthz", "/readyz"]
FIELD = b'--e\r\nContent-Disposition: form-data; name="a"\r\n\r\nb\r\n--e--\r\n'
NAUGHTY = ["<script>alert(1)</script>", "../../etc/passwd", "=cmd|' /C calc'!A0", "표 \u202e\u0000x", "a" * 300, "\\", "'\";--"]
NONE = ["", "x", "\x89PNG\r\n\x1a\n", "\xff\xd8\xff\xe0", "GIF89a", "RIFF0000WEBP", "II*\0", "P6 9 9 255\n", "BM"]


def raw(port, data, patience=10.0):
    """All that comes back for bytes as they are, until the server hangs up or falls silent; and how long it took."""
    begun = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.settimeout(patience)
        found = b""
        try:
            sock.sendall(data)
            while part := sock.recv(65536):
                found += part
        except OSError:
            pass
    return found, time.monotonic() - begun


def told(reply):
    return json.loads(reply.body)["error"]


@pytest.fixture(scope="module")
def guarded(running):
    with running(token="swordfish") as server:
        yield server


@pytest.mark.parametrize("path", [*ROUTES, "/nowhere"])
def test_without_the_token_nothing_is_told(guarded, path):
    for request in (get(path), post(b"x", path), get(path, "Authorization: Bearer sword"), get(path, "Authorization: Basic !")):
        reply = guarded.ask(request)
        assert reply.status == 401
        assert told(reply)["code"] == "unauthorized"
        assert b"www-authenticate: Basic" in reply.head


@pytest.mark.parametrize("path", HEALTH)
def test_health_asks_for_no_token(guarded, path):
    assert guarded.ask(get(path)).status == 200


def test_the_token_opens_as_bearer_and_as_a_browsers_password(guarded):
    basic = base64.b64encode(b"anybody:swordfish").decode()
    for header in ("Authorization: Bearer swordfish", f"Authorization: Basic {basic}"):
        assert guarded.ask(get("/v1/model", header)).status == 200


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        (["Host: localhost"], 200), (["Host: 127.0.0.1:8000"], 200), (["Host: [::1]:80"], 200), (["Host: evil.example"], 421),
        (["Host: 127.0.0.1.evil.example"], 421), (["Host: ["], 421), (["Host: localhost", "Origin: http://localhost:1"], 200),
        (["Host: localhost", "Origin: https://evil.example"], 421), (["Host: localhost", "Origin: null"], 421),
    ],
)  # fmt: skip
def test_without_a_token_only_its_own_name_is_answered(plain_server, headers, status):
    request = "\r\n".join(["GET /v1/model HTTP/1.1", *headers, "Connection: close", "", ""]).encode()
    assert raw(plain_server.port, request)[0].startswith(b"HTTP/1.1 %d" % status)


def test_pages_of_others_may_not_ask(plain_server):
    for site, status in (("cross-site", 403), ("same-site", 403), ("same-origin", 422), ("none", 422)):
        assert plain_server.ask(post(b"x", "/v1/predict", "image/png", f"Sec-Fetch-Site: {site}")).status == status


def test_every_answer_carries_what_keeps_pages_safe(plain_server):
    for request in (get("/"), get("/nowhere"), post(b"x"), get("/healthz"), get("/v1/predict")):
        head = plain_server.ask(request).head.lower()
        assert b"x-content-type-options: nosniff" in head
        assert b"content-security-policy: default-src 'none'; script-src 'self'" in head
        assert b"access-control" not in head
        assert b"server:" not in head


def test_no_route_takes_a_path_or_an_address(plain_server):
    document = json.loads(plain_server.ask(get("/openapi.json")).body)
    asked = [
        p["name"] for route in document["paths"].values() for method in route.values() for p in method.get("parameters", [])
    ]
    assert sorted(asked) == ["each", "label"]
    assert "uri" not in json.dumps(document)
    assert set(document["paths"]) == {"/v1/predict", "/v1/explain", "/v1/model", "/healthz", "/readyz", "/metrics"}


def test_no_path_leads_out(plain_server):
    steps = ["..", "%2e%2e", "%2e%2e%2f..", "..%5c..", ".%00.", "....//", "%c0%ae%c0%ae", "..;"]
    places = [
        "/etc/passwd",
        "/page.js",
        "/src/tapetum/errors.py",
        "//etc/passwd",
        "/proc/self/environ",
        "/C:/boot.ini",
        "/index.html",
    ]
    for route in (*ROUTES, *HEALTH):
        for step in steps:
            for place in places:
                reply = plain_server.ask(get(f"{route.rstrip('/')}/{step}{place}"))
                assert reply.status in (400, 404), (route, step, place)


@pytest.mark.parametrize(
    ("request_", "status", "words"),
    [
        (post(b""), 400, "holds no picture"),
        (post(b"x", "/v1/predict", "text/plain"), 415, "'text/plain'"),
        (post(b"x", "/v1/predict", "application/json"), 415, "expected image/*"),
        (post(b"x", "/v1/predict", "multipart/form-data"), 400, "boundary"),
        (post(b"nonsense", "/v1/predict", "multipart/form-data; boundary=edge"), 400, "form cannot be read"),
        (post(FIELD, "/v1/predict", "multipart/form-data; boundary=e"), 400, "holds no file"),
        (post(b"hello there"), 422, "not a picture"),
        (post(b"x" * 10_000_001), 413, "10 MB"),
        (post(b"x", "/v1/predict?each=maybe"), 400, "each"),
        (post(b"x", "/v1/explain?label=zebra"), 400, "'zebra'"),
        (post(b"x", "/v1/explain"), 422, "not a picture"),
        (get("/v1/predict"), 405, ""),
        (get("/docs"), 404, ""),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_with_the_status_that_fits(plain_server, request_, status, words):
    reply = plain_server.ask(request_)
    assert reply.status == status
    assert set(told(reply)) == {"code", "message"}
    assert words in told(reply)["message"]
    assert b"Traceback" not in reply.body


def test_one_bad_picture_among_many_fails_alone(plain_server, known_pictures):
    many = [("a", known_pictures[0]), ("b", b"junk"), ("c", known_pictures[1])]
    body, kind = form(many)
    reply = plain_server.ask(post(body, "/v1/predict", kind))
    assert reply.status == 200
    assert ["error" in answer for answer in json.loads(reply.body)["answers"]] == [False, True, False]
    body, kind = form([("a", b"junk"), ("b", b"")])
    bad = plain_server.ask(post(body, "/v1/predict", kind))
    assert bad.status == 422
    assert len(json.loads(bad.body)["answers"]) == 2
    assert plain_server.ask(post(body, "/v1/predict?each=true", kind)).status == 200


def test_names_come_back_as_they_were(plain_server, known_pictures):
    named = [(name.replace('"', "%22"), known_pictures[0]) for name in NAUGHTY if "\0" not in name and "\\" not in name]
    body, kind = form(named)
    found = json.loads(plain_server.ask(post(body, "/v1/predict", kind)).body)["answers"]
    assert [answer["name"] for answer in found] == [name for name, _ in named]


def test_too_many_pictures_are_refused_together(running, known_pictures):
    with running(pictures=3) as server:
        body, kind = form([("a", known_pictures[0])] * 4)
        reply = server.ask(post(body, "/v1/predict", kind))
        assert (reply.status, "4 pictures" in told(reply)["message"]) == (413, True)


def test_a_large_body_is_refused_as_it_arrives_however_it_comes(plain_server):
    head = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
    chunk = b"10000\r\n" + bytes(0x10000) + b"\r\n"
    long = head + b"Content-Length: 1000000000\r\n\r\n" + bytes(10**6)
    endless = head + b"Transfer-Encoding: chunked\r\n\r\n" + chunk * 200
    process = psutil.Process()  # holds what is sent, too: that was there before
    before = process.memory_info().rss
    for request in (long, endless):
        found, seconds = raw(plain_server.port, request)
        assert found.startswith(b"HTTP/1.1 413")
        assert seconds < 5
    both = raw(plain_server.port, head + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk)[0]
    assert both.startswith(b"HTTP/1.1 4")
    assert process.memory_info().rss - before < 40e6


def bomb(width, height):
    """A PNG whose header asks for a lot; its pixels are zeros, and few bytes."""

    def chunk(kind, data):
        return len(data).to_bytes(4) + kind + data + zlib.crc32(kind + data).to_bytes(4)

    header = width.to_bytes(4) + height.to_bytes(4) + bytes([8, 2, 0, 0, 0])
    lines = zlib.compress(bytes((width * 3 + 1) * min(height, 100)))
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", lines) + chunk(b"IEND", b"")


def test_a_picture_of_too_many_pixels_is_refused_by_its_header(plain_server):
    for width, height in ((30_000, 30_000), (5_001, 5_000)):
        reply = plain_server.ask(post(bomb(width, height)))
        assert reply.status == 422
        assert "over the limit of 25,000,000 pixels" in told(reply)["message"]
        assert reply.seconds < 1


def test_slow_heads_and_bodies_have_an_end_and_delay_nobody(running, known_pictures):
    with running(head_seconds=0.6, body_seconds=0.8, idle_seconds=1) as server:
        begin = b"POST /v1/predict HTTP/1.1\r\nHost: localhost\r\nContent-Type: image/png\r\n"
        slow = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(60)]
        begun = time.monotonic()
        for n, sock in enumerate(slow):
            sock.sendall([b"", begin, begin + b"Content-Length: 100\r\n\r\nabc"][n % 3])
        for picture in known_pictures[:5]:
            assert server.ask(post(picture)).status == 200
        ends = []
        for sock in slow:
            sock.settimeout(10)
            ends.append(sock.recv(1000)[:12])
            sock.close()
        assert time.monotonic() - begun < 5
        assert ends == [b"", b"", b"HTTP/1.1 408"] * 20
        while server.server.server_state.connections:
            assert time.monotonic() - begun < 10
            time.sleep(0.05)


def test_an_endless_head_and_an_idle_connection_are_closed(running):
    with running(head_bytes=4096, idle_seconds=1) as server:
        assert raw(server.port, b"GET / HTTP/1.1\r\n" + b"X-Long: 1\r\n" * 1000)[0][:12] in (b"HTTP/1.1 400", b"")
        found, seconds = raw(server.port, get("/healthz"))
        assert found.startswith(b"HTTP/1.1 200")
        assert 0.9 < seconds < 5


def test_more_connections_than_the_limit_are_closed(running):
    with running(connections=5) as server:
        held = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(5)]
        time.sleep(0.2)
        assert raw(server.port, get("/healthz"))[0] == b""
        for sock in held:
            sock.close()
        time.sleep(0.2)
        assert server.ask(get("/healthz")).status == 200


def slowly(service, seconds):
    compute = service._batcher._compute

    def slow(squares):
        time.sleep(seconds)
        return compute(squares)

    service._batcher._compute = slow


def test_a_full_queue_says_so_at_once_and_when_to_come_again(running, known_pictures):
    with running(queue=2) as server:
        slowly(server.service, 0.5)
        replies = asyncio.run(load.all_at_once(server.port, [post(known_pictures[0])] * 12, 12))
        served = [reply for reply in replies if reply.status == 200]
        refused = [reply for reply in replies if reply.status == 503]
        assert 1 <= len(served) <= 4
        assert len(served) + len(refused) == 12
        assert all(b"retry-after: " in reply.head for reply in refused)
        assert max(reply.seconds for reply in refused) < min(reply.seconds for reply in served)
        assert told(refused[0])["code"] == "busy"
        assert server.ask(get("/healthz")).status == 200


def counted(text, route):
    """Requests of a route by status."""
    found = re.findall(rf'^tapetum_requests_total{{route="{route}",status="(\d+)"}} (\S+)', text, re.MULTILINE)
    return {status: float(count) for status, count in found}


def test_who_hangs_up_leaves_no_work_behind(running, known_pictures):
    with running() as server:
        slowly(server.service, 0.3)
        socks = [socket.create_connection(("127.0.0.1", server.port)) for _ in range(40)]
        for sock in socks:
            sock.sendall(post(known_pictures[0]))
        time.sleep(0.15)
        for sock in socks:
            sock.close()
        deadline = time.monotonic() + 5
        while server.service._places.taken:
            assert time.monotonic() < deadline
            time.sleep(0.05)
        text = server.ask(get("/metrics")).body.decode()
        computed = float(next(line for line in text.splitlines() if line.startswith("tapetum_batch_pictures_sum")).split()[1])
        assert computed < 41  # one of the warm-up; those who had gone were not computed
        assert counted(text, "/v1/predict").keys() <= {
            "200",
            "499",
        }  # of those that were computed nobody knew that they had gone
        assert counted(text, "/v1/predict")["499"] >= 41 - computed


def test_who_hangs_up_in_the_middle_of_a_body_counts_as_gone(running, known_pictures):
    with running() as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            sock.sendall(post(known_pictures[0])[:-100])
            time.sleep(0.1)
        deadline = time.monotonic() + 5
        while not (found := counted(server.ask(get("/metrics")).body.decode(), "/v1/predict")):
            assert time.monotonic() < deadline
            time.sleep(0.05)
        assert found == {"499": 1}


def test_of_many_pictures_no_more_are_decoded_once_who_asked_hung_up(running, known_pictures, monkeypatch):
    with running() as server:
        asked, ask = [], _Decoder.ask

        async def slowly_decoded(decoder, data):
            asked.append(server.service._places.taken)
            await asyncio.sleep(0.1)
            return await ask(decoder, data)

        monkeypatch.setattr(_Decoder, "ask", slowly_decoded)
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            body, kind = form([(f"{n}.png", known_pictures[0]) for n in range(40)])
            sock.sendall(post(body, kind=kind))
            deadline = time.monotonic() + 20
            while not asked:
                assert time.monotonic() < deadline
                time.sleep(0.01)
        while server.service._places.taken:
            assert time.monotonic() < deadline
            time.sleep(0.02)
        done = len(asked)
        assert 0 < done < 40
        assert set(asked) == {40}  # the places are kept as long as one of the pictures is at work
        time.sleep(0.5)
        assert len(asked) == done


def test_a_bug_is_said_in_the_form_of_all_refusals_and_the_next_is_answered(running, known_pictures, monkeypatch):
    with running() as server:
        with monkeypatch.context() as patch:
            patch.setattr(server.service, "_answer", lambda *_: 1 / 0)
            reply = server.ask(post(known_pictures[0]))
        assert reply.status == 500
        assert json.loads(reply.body)["error"]["code"] == "bug"
        assert b"ZeroDivision" not in reply.body
        assert server.ask(post(known_pictures[0])).status == 200


def test_the_limits_that_are_told_are_those_that_hold(running, known_pictures):
    with running(queue=3) as server:
        told = json.loads(server.ask(get("/v1/model")).body)["limits"]["pictures"]
        assert told == 3
        body, kind = form([(f"{n}.png", known_pictures[0]) for n in range(told + 1)])
        assert server.ask(post(body, kind=kind)).status == 413


def test_not_ready_means_503(plain_server, known_pictures):
    plain_server.service.ready = False
    try:
        assert plain_server.ask(get("/readyz")).status == 503
        reply = plain_server.ask(post(known_pictures[0]))
        assert reply.status == 503
        assert b"retry-after" in reply.head
        assert plain_server.ask(get("/healthz")).status == 200
    finally:
        plain_server.service.ready = True


def mutated(chance, whole):
    """A request with bytes flipped, cut, doubled and put elsewhere."""
    data = bytearray(whole)
    for _ in range(chance.randint(1, 6)):
        at = chance.randrange(len(data) or 1)
        match chance.randrange(5):
            case 0:
                data[at : at + 1] = bytes([chance.randrange(256)])
            case 1:
                del data[at : at + chance.randint(1, 40)]
            case 2:
                data[at:at] = data[at : at + chance.randint(1, 60)]
            case 3:
                data[at:at] = chance.choice(
                    [b"\r\n", b"\0", b"\xff", b": ", b"Transfer-Encoding: chunked\r\n", b"--edge", b"9" * 30]
                )
            case 4:
                data = data[:at]
    return bytes(data)


def test_garbage_is_refused_and_never_breaks_the_server(running, known_pictures):
    chance = random.Random(0)
    body, kind = form([("a.png", known_pictures[0]), ("b", b"junk")])
    whole = [
        post(body, "/v1/predict", kind),
        post(known_pictures[0]),
        get("/"),
        post(body[:200], "/v1/explain", kind),
        b"\x16\x03\x01",
    ]
    whole += [
        b"CONNECT a:1 HTTP/1.1\r\n\r\n",
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"GET / HTTP/1.1\r\nUpgrade: websocket\r\n\r\n",
    ]
    seen = set()
    # Room for all of them: on a slow machine some would rightly be told to come again (503).
    with running(head_seconds=0.2, body_seconds=0.2, idle_seconds=1, queue=1000) as server:
        socks = []
        for _ in range(400):
            sock = socket.create_connection(("127.0.0.1", server.port))
            sock.settimeout(5)
            with contextlib.suppress(OSError):
                sock.sendall(mutated(chance, chance.choice(whole)))
            socks.append(sock)
        for sock in socks:
            try:
                seen.add(sock.recv(12)[9:12])
            except OSError:
                seen.add(b"")
            sock.close()
        assert server.ask(post(known_pictures[0])).status == 200
    assert {b"400", b"422"} <= seen
    assert not any(status.startswith(b"5") for status in seen)


def test_odd_pictures_are_answered_or_refused(plain_server):
    places = SHARED / "odd-images"
    if places.exists():
        files = [path.read_bytes() for path in sorted(places.rglob("*")) if path.is_file()]
    else:
        files = [encoded(Image.new(mode, (7, 5))) for mode in ("1", "L", "LA", "P", "RGB", "RGBA", "I;16")]
        files += [whole[:cut] for whole in list(files) for cut in (10, 40, len(whole) - 5)]
    files += [text.encode("latin-1") for text in NONE if text]
    replies = asyncio.run(load.all_at_once(plain_server.port, [post(data) for data in files], 4))
    assert {reply.status for reply in replies} == {200, 422}


def test_a_heat_map_is_a_png_and_names_its_class(plain_server, known_pictures):
    first, second = (plain_server.ask(post(known_pictures[0], f"/v1/explain?label={label}")) for label in ("lying", "upright"))
    assert first.status == second.status == 200
    sizes = [Image.open(io.BytesIO(reply.body)).size for reply in (first, second)]
    assert sizes == [(224, 224)] * 2
    assert first.body != second.body
    body, kind = form([("a", known_pictures[0])] * 2)
    assert plain_server.ask(post(body, "/v1/explain", kind)).status == 400
