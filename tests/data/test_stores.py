import io
import os
import tarfile
import zipfile

import pytest

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
    assert FolderStore(tmp_path).names() == ["a/1.jpg", "a/alive.jpg"]


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


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:xz"])
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


def test_a_damaged_member_is_an_os_error_with_its_reason(tmp_path):
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as file:
        file.writestr("Cat/1.jpg", b"x" * 1000)
    data = bytearray(path.read_bytes())
    data[500] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="damaged in the archive.*CRC"):
        ZipStore(path).read("Cat/1.jpg")


def test_a_broken_archive_is_said_and_so_is_another_file(tmp_path):
    path = tmp_path / "a.tar.gz"
    with tarfile.open(path, "w:gz") as file:
        file.addfile(tarfile.TarInfo("a"), None)
    path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(UserError, match="cannot be read|neither a folder"):
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
