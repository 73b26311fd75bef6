import json
import os
import stat
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from conftest import write_stripes
from shard_server import serving
from tapetum.data import remote
from tapetum.data.addresses import beside, url_of
from tapetum.data.cache import open_pictures
from tapetum.data.pack import pack
from tapetum.data.sources import find_pictures, find_samples
from tapetum.errors import UserError


@pytest.fixture(autouse=True)
def hurried(monkeypatch):
    monkeypatch.setattr(remote, "_PAUSE_SECONDS", 0.01)
    monkeypatch.setattr(remote, "_SILENCE_SECONDS", 0.3)


@pytest.fixture
def packed(tmp_path):
    """24 pictures in six shards, in a folder whose name needs care in an address."""
    pack(write_stripes(tmp_path / "pictures", 12), tmp_path / "web" / "사진 조각", shard_mb=0.041)
    return tmp_path / "web" / "사진 조각"


def shards_asked(server):
    return [name for name, _ in server.asked if name.endswith(".tar")]


@pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
@pytest.mark.parametrize("end", ["", "/", "/tapetum-shards.json"])
def test_shards_are_read_from_a_web_server_each_once(packed, own_cache, ranges, end):
    here = find_samples(packed)
    with serving(packed.parent, ranges) as server:
        address = f"{server.url}/사진 조각{end}"
        for data in (address, Path(address)):
            samples = find_samples(data)
            assert (samples.names, samples.classes) == (here.names, here.classes)
            pictures, ours = (open_pictures(each, 24) for each in (samples, here))
            assert pictures.hashes == ours.hashes
            assert all(np.array_equal(pictures[i], ours[i]) for i in range(24))
            assert [samples.read(i) for i in range(24)] == [here.read(i) for i in range(24)]
        assert find_pictures([address]).names == here.names
        assert sorted(shards_asked(server)) == sorted(path.name for path in packed.glob("*.tar"))
    assert sorted(path.stem for path in (own_cache / "shards").iterdir()) == sorted(
        shard["sha256"] for shard in json.loads((packed / "tapetum-shards.json").read_text())["shards"]
    )


def test_many_processes_would_fetch_a_shard_once(packed, own_cache):
    shard = json.loads((packed / "tapetum-shards.json").read_text())["shards"][0]
    with serving(packed) as server, ThreadPoolExecutor(8) as pool:
        url = beside(server.url, shard["name"])
        whole = own_cache / "shards" / "whole.tar"
        jobs = [pool.submit(remote.fetch, url, shard["bytes"], shard["sha256"], whole) for _ in range(8)]
        assert {job.exception() for job in jobs} == {None}
        assert whole.read_bytes() == (packed / shard["name"]).read_bytes()
        assert len(server.asked) == 1


@pytest.mark.parametrize("ranges", [True, False], ids=["range", "no range"])
@pytest.mark.parametrize("faults", [["cut", None], [503, 500, None], ["silent", None], ["changed", None], ["cut", "cut", None]])
def test_what_passes_is_tried_again(packed, ranges, faults):
    name = "shard-000002.tar"
    with serving(packed, ranges) as server:
        server.wrong[name] = list(faults)
        samples = find_samples(server.url)
        assert [samples.read(i) for i in range(24)] == [find_samples(packed).read(i) for i in range(24)]
        asked = [given for asked_name, given in server.asked if asked_name == name]
    assert len(asked) == len(faults)
    # A broken transfer goes on where it stopped.
    went_on = faults[0] == "cut"
    assert [given is not None for given in asked[1:]] == [went_on] * (len(faults) - 1)


@pytest.mark.parametrize(
    ("fault", "told", "tries"),
    [
        (404, "the server answers 404 Not Found", 1),
        (403, "the server answers 403 Forbidden", 1),
        (500, "the server answers 500 Internal Server Error", 4),
        ("silent", "the server was silent for 0.3 s", 4),
        ("changed", r"its content is not what is known of it .SHA-256 [0-9a-f]{64}.", 4),
        ("longer", "it is longer than the", 4),
    ],
)
def test_a_shard_that_cannot_be_had_is_named_and_what_came_is_kept(packed, own_cache, fault, told, tries):
    name = "shard-000002.tar"
    with serving(packed) as server:
        server.wrong[name] = [fault]
        samples = find_samples(server.url)
        with pytest.raises(UserError, match=rf"^{server.url}/{name} could not be fetched: {told}") as refused:
            open_pictures(samples, 24)
        assert str(refused.value).count(". ") <= 2
        assert len([asked for asked in shards_asked(server) if asked == name]) >= tries
        assert list(own_cache.glob("*.json")) == []  # no cache of a part
        server.wrong.clear()
        before = len(server.asked)
        assert open_pictures(find_samples(server.url), 24).reasons == {}
        # Shards that came completely are not fetched again.
        assert "shard-000000.tar" not in [asked for asked, _ in server.asked[before:]]
        assert "shard-000001.tar" not in [asked for asked, _ in server.asked[before:]]


def test_a_truncated_shard_is_fetched_no_further_than_it_goes(packed):
    (packed / "shard-000000.tar").write_bytes((packed / "shard-000000.tar").read_bytes()[:3000])
    with serving(packed, ranges=False) as server, pytest.raises(UserError, match="it ended after 3,000 of"):
        open_pictures(find_samples(server.url), 24)


def test_a_shortened_file_is_said_to_be_one_and_can_be_had_once_it_is_whole_again(packed, own_cache):
    """The server has nothing beyond what came (416), and what came is no beginning of the right file."""
    shard = packed / "shard-000000.tar"
    whole = shard.read_bytes()
    shard.write_bytes(b"\1" * 3000)
    with serving(packed) as server:
        with pytest.raises(UserError, match=f"could not be fetched: it ended after 3,000 of {len(whole):,} bytes"):
            open_pictures(find_samples(server.url), 24)
        assert [asked for name, asked in server.asked if name == shard.name] == [None, "bytes=3000-"] * 2
        assert not list((own_cache / "shards").glob(".*.part"))
        shard.write_bytes(whole)
        assert open_pictures(find_samples(server.url), 24).reasons == {}


@pytest.mark.parametrize(
    ("fault", "told"),
    [
        (404, "answers 404"),
        (500, "answers 500"),
        ("cut", "it ended after"),
        ("silent", "was silent for 0.3 s"),
        ("changed", ""),
    ],
)
def test_an_index_that_cannot_be_had_is_named(packed, fault, told):
    with serving(packed) as server:
        server.wrong["tapetum-shards.json"] = [fault]
        with pytest.raises(UserError, match=f"{server.url}/tapetum-shards.json .*{told}"):
            find_samples(server.url)


def test_an_endless_index_is_given_up(packed, monkeypatch):
    from tapetum.data import shards

    monkeypatch.setattr(shards, "_MAX_INDEX_BYTES", 1000)
    with serving(packed) as server, pytest.raises(UserError, match="it is longer than 1,000 bytes"):
        find_samples(server.url)


def test_nobody_there_is_a_sentence():
    with serving(Path()) as server:
        url = server.url
    with pytest.raises(UserError, match=r"could not be fetched: .*refused"):
        find_samples(url)


def test_a_cache_folder_that_cannot_be_written_is_named(packed, monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("TAPETUM_CACHE", str(tmp_path / "file" / "cache"))
    with serving(packed) as server:
        samples = find_samples(server.url)
        with pytest.raises(UserError, match=r"could not write to .*where what is fetched is kept.*TAPETUM_CACHE"):
            samples.read(0)


@pytest.mark.parametrize(
    ("address", "told"),
    [
        ("pipe:cat shards", "'pipe' is no kind of address"),
        ("file:///etc", "'file' is no kind of address"),
        ("ftp://host/x", "'ftp' is no kind of address"),
        ("https://user:secret@host/x", "without a password"),
        ("https://host/x?token=secret", "without a password"),
        ("https://host/x#part", "without a password"),
    ],
)
def test_other_addresses_are_refused(address, told):
    for data in (address, Path(address)):
        with pytest.raises(UserError, match=told) as refused:
            find_samples(data)
        assert "secret" not in str(refused.value)


def test_a_path_is_no_address(tmp_path):
    for path in ("C:/photos", "C:\\photos", "photos", "/photos", "./http", "a:b", tmp_path):
        assert url_of(path) == ""
    assert url_of("HTTP://host/a//b") == "http://host/a//b"


@pytest.fixture
def stand_in(tmp_path, monkeypatch):
    """A program in place of gsutil or ais, that prints files of a folder and remembers what it was asked."""
    if sys.platform == "win32":
        pytest.skip("a shell script stands in")

    def put(name, body):
        path = tmp_path / "bin" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\necho \"$@\" >> '{tmp_path}/asked'\n{body}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
        monkeypatch.setenv("PATH", f"{path.parent}{os.pathsep}{os.environ['PATH']}")

    return put


def test_an_object_store_is_read_through_webdatasets_opener(packed, tmp_path, stand_in):
    pytest.importorskip("webdataset")
    stand_in("gsutil", f'[ "$1" = cat ] && exec cat "{tmp_path}/web/${{2#gs://}}"')
    stand_in("ais", f'[ "$1" = get ] && exec cat "{tmp_path}/web/${{2#ais://}}"')
    for scheme in ("gs", "ais"):
        samples = find_samples(f"{scheme}://사진 조각")
        assert [samples.read(i) for i in range(24)] == [find_samples(packed).read(i) for i in range(24)]
    assert "cat gs://사진 조각/tapetum-shards.json" in (tmp_path / "asked").read_text()


def test_an_object_that_is_not_there_is_named(packed, stand_in, monkeypatch):
    pytest.importorskip("webdataset")
    stand_in("gsutil", "exit 3")
    with pytest.raises(UserError, match=r"gs://bucket/tapetum-shards.json could not be fetched: .*exit 3"):
        find_samples("gs://bucket")
    with pytest.raises(UserError, match=r"s3:// has no opener: expected USE_AIS_FOR=s3"):
        find_samples("s3://bucket")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(UserError, match=r"the program gsutil, which reads gs://, is not installed"):
        find_samples("gs://bucket")


def test_no_shell_is_started_by_a_rewritten_address(packed, tmp_path, stand_in, monkeypatch):
    pytest.importorskip("webdataset")
    stand_in("gsutil", "exit 3")
    monkeypatch.setenv("GOPEN_REWRITE", f"gs://=pipe:touch {tmp_path}/harm #")
    with pytest.raises(UserError, match="could not be fetched"):
        find_samples("gs://bucket")
    assert not (tmp_path / "harm").exists()


def test_without_webdataset_the_web_and_this_machine_are_read_all_the_same(packed, monkeypatch):
    monkeypatch.setitem(sys.modules, "webdataset", None)
    monkeypatch.setitem(sys.modules, "webdataset.gopen", None)
    with serving(packed) as server:
        assert [find_samples(server.url).read(i) for i in range(3)] == [find_samples(packed).read(i) for i in range(3)]
    with pytest.raises(UserError, match=r"webdataset, which is not installed: pip install 'tapetum\[stream\]'"):
        find_samples("gs://bucket")
