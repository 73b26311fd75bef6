import io
import os
import tarfile
import zipfile
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest

from tapetum.data import stores
from tapetum.data.stores import FolderStore, TarStore, ZipStore, open_store
from tapetum.errors import UserError


def test_a_folder_gives_its_regular_files_sorted(tmp_path):
    for name in ("b/2.jpg", "b/10.jpg", "a/x.jpg", ".git/config", "a/.DS_Store", "Thumbs.db", "__MACOSX/a.jpg"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(name.encode())
    store = FolderStore(tmp_path)
    assert store.names() == ["a/x.jpg", "b/10.jpg", "b/2.jpg"]
    assert store.read("b/2.jpg") == b"b/2.jpg"
    assert store.stamp("b/2.jpg")[0] == 7
    assert store.stamp("gone") == (-1, -1)


def test_loops_pipes_and_dead_links_are_passed_over(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"x")
    (tmp_path / "a" / "loop").symlink_to(tmp_path)
    (tmp_path / "a" / "dead.jpg").symlink_to(tmp_path / "nothing")
    (tmp_path / "a" / "alive.jpg").symlink_to(tmp_path / "a" / "1.jpg")
    os.mkfifo(tmp_path / "a" / "pipe.jpg")
    store = FolderStore(tmp_path)
    assert store.names() == store.names() == ["a/1.jpg", "a/alive.jpg"]
    reasons = ["a link to no file", "a link to a folder", "a pipe, socket or device"]
    assert store.skipped == list(zip(["a/dead.jpg", "a/loop", "a/pipe.jpg"], reasons, strict=True))


def test_a_zip_is_read_in_place(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("Cat/1.jpg", "Dog/2.jpg", "__MACOSX/Cat/1.jpg", "../evil.jpg", "/abs.jpg", "C:\\x.jpg"):
            file.writestr(name, name)
        link = zipfile.ZipInfo("Cat/link.jpg")
        link.external_attr = 0o120777 << 16
        file.writestr(link, "/etc/passwd")
    store = ZipStore(path)
    assert store.names() == ["Cat/1.jpg", "Dog/2.jpg"]
    assert store.read("Dog/2.jpg") == b"Dog/2.jpg"
    assert len(store.skipped) == 4
    assert dict(store.skipped)["../evil.jpg"] == "its name points outside the archive"
    assert dict(store.skipped)["Cat/link.jpg"] == "a link or device"


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_a_tar_is_read_in_place(tmp_path, mode):
    path = tmp_path / "a.bin"
    with tarfile.open(path, mode) as file:
        for name in ("Cat/1.jpg", "./Dog/2.jpg", "../evil.jpg", "/abs.jpg"):
            info = tarfile.TarInfo(name)
            info.size = len(name)
            file.addfile(info, io.BytesIO(name.encode()))
        link = tarfile.TarInfo("Cat/link.jpg")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        file.addfile(link)
    store, kind = open_store(path)
    assert isinstance(store, TarStore)
    assert kind == "tar archive"
    assert store.names() == ["Cat/1.jpg", "Dog/2.jpg"]
    assert store.read("Dog/2.jpg") == b"./Dog/2.jpg"
    assert len(store.skipped) == 3


def packed(path, contents):
    """An archive of `contents`, name -> bytes; its kind is the suffix."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
            for name, data in contents.items():
                file.writestr(name, data)
    else:
        with tarfile.open(path, "w" + {".tar": "", ".gz": ":gz", ".xz": ":xz", ".bz2": ":bz2"}[path.suffix]) as file:
            for name, data in contents.items():
                info = tarfile.TarInfo(name)
                info.size = len(data)
                file.addfile(info, io.BytesIO(data))
    return path


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_threads_read_one_archive_together(tmp_path, suffix):
    generator = np.random.default_rng(0)
    contents = {f"a/{n}": generator.bytes(int(generator.integers(0, 5000))) for n in generator.permutation(200)}
    store, _ = open_store(packed(tmp_path / f"a{suffix}", contents))
    names = store.names() * 5
    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(store.read, names)) == [contents[name] for name in names]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_no_damage_is_anything_but_a_reason(tmp_path, suffix):
    contents = {f"a/{n}.jpg": bytes(range(256)) * 2 for n in range(4)}
    whole = packed(tmp_path / f"a{suffix}", contents).read_bytes()
    generator = np.random.default_rng(1)
    refused = 0
    for _ in range(150):
        data = bytearray(whole)
        for place in generator.integers(0, len(data), 3):
            data[place] = generator.integers(256)
        (tmp_path / "b").write_bytes(data[: generator.integers(len(data) // 2, len(data) + 1)])
        try:
            store, _ = open_store(tmp_path / "b")
            for name in store.names():
                store.read(name)
        except (UserError, OSError):
            refused += 1
    assert refused > 25


@pytest.mark.parametrize("packing", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damage_in_rarer_packings_is_an_os_error_too(tmp_path, packing):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", packing) as file:
        file.writestr("a.jpg", np.random.default_rng(0).bytes(500))
    data = bytearray(path.read_bytes())
    data[60:80] = b"\xff" * 20
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"."):
        ZipStore(path).read("a.jpg")


def test_a_member_without_a_name_is_left_out(tmp_path):
    path = packed(tmp_path / "a.zip", {"a": b"x", "b": b"y"})
    path.write_bytes(path.read_bytes().replace(b"a", b"\0"))  # a name ends at its first NUL
    store = ZipStore(path)
    assert (store.names(), store.skipped) == (["b"], [("", "it has no name")])


def test_a_tar_with_a_damaged_header_loses_nothing_in_silence(tmp_path):
    path = packed(tmp_path / "a.tar", {"Cat/1.jpg": b"x", "Cat/2.jpg": b"y", "Dog/3.jpg": b"z"})
    data = bytearray(path.read_bytes())
    data[1024 + 10] ^= 0xFF  # the second header
    path.write_bytes(data)
    with pytest.raises(UserError, match="damaged at byte 1,024"):
        open_store(path)


def test_encrypted_and_huge_members_are_left_out_with_a_reason(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.zip", {"a.jpg": b"x", "big.jpg": b"y" * 2000})
    data = bytearray(path.read_bytes())
    data[6] |= 1  # bit 0 of the flags of the first local header, and of the first entry of the directory
    data[data.index(b"PK\1\2") + 8] |= 1
    path.write_bytes(data)
    monkeypatch.setattr(stores, "MAX_MEMBER_BYTES", 1000)
    store = ZipStore(path)
    assert store.names() == []
    assert store.skipped == [("a.jpg", "encrypted"), ("big.jpg", "2,000 bytes, more than a picture has")]
    tar = TarStore(packed(tmp_path / "a.tar", {"a.jpg": b"x", "big.jpg": b"y" * 2000}))
    assert (tar.names(), len(tar.skipped)) == (["a.jpg"], 1)


def test_a_member_that_gives_more_than_it_says_is_cut_off(tmp_path):
    path = packed(tmp_path / "a.zip", {"a.jpg": b"y" * 100_000})
    data = bytearray(path.read_bytes())
    directory = data.index(b"PK\1\2")
    data[directory + 24 : directory + 28] = (10).to_bytes(4, "little")  # the unpacked size
    path.write_bytes(data)
    with pytest.raises(OSError, match="damaged in the archive"):
        ZipStore(path).read("a.jpg")


def test_a_compressed_tar_that_memory_cannot_hold_is_refused(tmp_path, monkeypatch):
    path = packed(tmp_path / "a.tar.gz", {"a.jpg": b"y" * 50_000})
    monkeypatch.setattr(stores, "_MAX_MEMORY_BYTES", 20_000)
    with pytest.raises(UserError, match=r"holds more than 20,000 bytes.*Unpack it"):
        open_store(path)


def test_zip_names_of_other_packers_are_understood(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("Cat\\1.jpg", "x")
        file.writestr("./Dog//2.jpg", "y")
        mac = zipfile.ZipInfo("x" * len("고양이/3.jpg".encode()))
        file.writestr(mac, "z")
    # macOS writes UTF-8 without the flag that says so.
    data = (tmp_path / "a.zip").read_bytes().replace(mac.filename.encode(), "고양이/3.jpg".encode())
    (tmp_path / "a.zip").write_bytes(data)
    store = ZipStore(tmp_path / "a.zip")
    assert store.names() == ["Cat/1.jpg", "Dog/2.jpg", "고양이/3.jpg"]
    assert [store.read(name) for name in store.names()] == [b"x", b"y", b"z"]


@pytest.mark.parametrize("suffix", [".zip", ".tar", ".tar.gz"])
def test_a_stamp_changes_with_the_content(tmp_path, suffix):
    stamps = []
    for n, text in enumerate((b"one", b"two")):
        path = packed(tmp_path / f"a{suffix}", {"a.jpg": text})
        os.utime(path, (n, n))
        stamps.append(open_store(path)[0].stamp("a.jpg"))
    assert stamps[0] != stamps[1]
    assert stamps[0][0] == stamps[1][0] == 3


def test_a_damaged_member_is_an_os_error_with_its_reason(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("Cat/1.jpg", b"x" * 1000)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match=r"damaged in the archive.*CRC"):
        ZipStore(path).read("Cat/1.jpg")


def test_a_broken_archive_is_said_and_so_is_another_file(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.addfile(tarfile.TarInfo("a"), None)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read"):
        open_store(path)
    (tmp_path / "cat.jpg").write_bytes(b"\xff\xd8")
    with pytest.raises(UserError, match=r"neither a folder, a CSV file nor a zip or tar"):
        open_store(tmp_path / "cat.jpg")


def test_archives_that_point_outside_are_harmless(shared, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    archives = [p for p in (shared / "odd-images" / "zip-slip").rglob("*") if p.suffix in (".zip", ".tar", ".gz", ".tgz")]
    assert len(archives) == 4
    for archive in archives:
        store, _ = open_store(archive)
        assert store.skipped
        for name in store.names():
            assert ".." not in name
            store.read(name)
    assert list(tmp_path.iterdir()) == []
