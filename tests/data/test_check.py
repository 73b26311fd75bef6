"""Judges: one folder for each finding, made to have just that, and a hash of the whole tree before and after."""

import hashlib
import itertools
import json
import shutil
import zipfile

import numpy as np
import pytest
from PIL import Image
from test_duplicates import scene

import tapetum.run
from tapetum.data.cache import open_pictures
from tapetum.data.check import _not_on_windows, find_serious


def check(folder):
    return tapetum.run.check(folder, say=lambda line: None)


@pytest.fixture
def photos(tmp_path):
    """25 pictures a class, without anything to object to."""
    for label, start in (("cat", 0), ("dog", 100)):
        (tmp_path / "내 사진" / label).mkdir(parents=True)
        for i in range(25):
            scene(start + i).save(tmp_path / "내 사진" / label / f"{i}.jpg", quality=90)
    return tmp_path / "내 사진"


def kinds(found):
    return [each.kind for each in found.findings]


def only(found):
    assert len(found.findings) == 1, found.text()
    return found.findings[0]


def test_good_data_have_nothing_to_object_to(photos):
    found = check(photos)
    assert found.findings == ()
    assert "nothing to object to" in found.text()
    assert (found.readable, found.sides) == (50, (160, 160, 160))


def test_unreadable_files_and_links_are_named(photos):
    (photos / "cat" / "empty.jpg").write_bytes(b"")
    (photos / "cat" / "loop").symlink_to(photos / "cat")
    found = check(photos)
    assert [(each.kind, each.files) for each in found.findings] == [
        ("unreadable", (("cat/empty.jpg", "empty file"),)),
        ("left-out", (("cat/loop", "a link to a folder"),)),
    ]


def test_the_same_picture_under_two_labels_is_serious(photos):
    shutil.copy(photos / "cat" / "3.jpg", photos / "dog" / "x.jpg")
    scene(7).save(photos / "dog" / "y.png")  # cat/7.jpg before it was a JPEG
    found = only(check(photos))
    assert (found.kind, found.harm) == ("two-labels", "serious")
    assert set(found.groups) == {("cat/3.jpg", "dog/x.jpg"), ("cat/7.jpg", "dog/y.png")}


def test_a_training_is_told_the_serious_findings_and_reads_no_file_for_them(photos, monkeypatch):
    shutil.copy(photos / "cat" / "3.jpg", photos / "dog" / "x.jpg")
    shutil.copy(photos / "cat" / "4.jpg", photos / "cat" / "y.jpg")
    every = check(photos)
    assert sorted(each.harm for each in every.findings) == ["note", "serious"]
    pictures = open_pictures(every.samples, 256)
    monkeypatch.setattr(type(every.samples), "read", lambda samples, i: pytest.fail("a file was read"))
    assert find_serious(every.samples, pictures) == tuple(each for each in every.findings if each.harm == "serious")


def test_duplicates_within_and_across_parts(photos, tmp_path):
    shutil.copy(photos / "cat" / "3.jpg", photos / "cat" / "again.jpg")
    assert [(each.kind, each.groups) for each in check(photos).findings] == [("duplicates", (("cat/3.jpg", "cat/again.jpg"),))]
    shutil.copytree(photos, tmp_path / "parts" / "train")
    for label in ("cat", "dog"):
        (tmp_path / "parts" / "val" / label).mkdir(parents=True)
    shutil.copy(photos / "dog" / "5.jpg", tmp_path / "parts" / "val" / "dog" / "leak.jpg")
    scene(999).save(tmp_path / "parts" / "val" / "cat" / "new.jpg")
    found = check(tmp_path / "parts")
    assert kinds(found) == ["across-splits", "duplicates"]
    assert found.findings[0].groups == (("train/dog/5.jpg", "val/dog/leak.jpg"),)


def test_few_and_uneven(photos):
    for i in range(20):
        (photos / "dog" / f"{i}.jpg").unlink()
    found = check(photos)
    assert kinds(found) == ["few", "uneven"]
    assert found.findings[0].files == (("dog", "5 pictures"),)
    assert "5 times" in found.findings[1].title


def test_names_that_other_systems_do_not_take(photos):
    scene(300).save(photos / "cat" / "CON.jpg")
    scene(301).save(photos / "cat" / "what?.jpg")
    scene(302).save(photos / "dog" / "KON.jpg")
    scene(303).save(photos / "dog" / "kon.jpg")
    found = check(photos)
    assert kinds(found) == ["name-collisions", "odd-names"]
    assert found.findings[0].groups == (("dog/KON.jpg", "dog/kon.jpg"),)
    assert [name for name, _ in found.findings[1].files] == ["cat/CON.jpg", "cat/what?.jpg"]


@pytest.mark.parametrize(
    ("name", "odd"),
    [("a/b.jpg", False), ("a/con.png", True), ("com1/x.jpg", True), ("a./x.jpg", True), ("a/x.jpg ", True), ("a/x:y.jpg", True),
     ("고양이/사진 1.jpg", False), ("console/x.jpg", False)],
)  # fmt: skip
def test_names_on_windows(name, odd):
    assert bool(_not_on_windows(name)) == odd


def test_content_that_belies_its_name_and_turned_pictures(photos):
    scene(300).save(photos / "cat" / "false.jpg", format="PNG")
    exif = Image.Exif()
    exif[0x0112] = 6
    scene(301).save(photos / "dog" / "turned.jpg", exif=exif)
    found = check(photos)
    assert [(each.kind, each.files) for each in found.findings] == [
        ("belied-names", (("cat/false.jpg", "is a PNG file"),)),
        ("turned", (("dog/turned.jpg", "EXIF orientation 6"),)),
    ]


def test_names_that_do_not_say_picture_are_told(photos):
    scene(300).save(photos / "cat" / "bare", format="PNG")
    scene(301).save(photos / "dog" / ".hidden", format="PNG")
    found = only(check(photos))
    assert (found.kind, found.harm, found.files) == ("no-suffix", "note", (("cat/bare", "is a PNG file"),))


def test_grey_pictures_that_give_a_class_away(photos):
    for i in range(12):
        scene(400 + i).convert("L").save(photos / "dog" / f"grey{i}.png")
    found = only(check(photos))
    assert (found.kind, found.count) == ("grey", 12)
    assert "12 of them 'dog'" in found.title
    for i in range(12):
        scene(500 + i).convert("L").save(photos / "cat" / f"grey{i}.png")
    assert "of them" not in only(check(photos)).title


def test_blank_small_and_long_pictures(photos):
    Image.new("RGB", (160, 160), (250, 250, 250)).save(photos / "cat" / "blank.png")
    scene(300, 16).save(photos / "cat" / "icon.png")
    scene(301).resize((900, 160)).save(photos / "dog" / "strip.png")
    found = check(photos)
    assert [(each.kind, each.files[0][0]) for each in found.findings] == [
        ("blank", "cat/blank.png"),
        ("small", "cat/icon.png"),
        ("long", "dog/strip.png"),
    ]


def test_pictures_that_use_few_of_their_16_bits_are_named(photos):
    of_12_bits = np.linspace(0, 4095, 160 * 160).reshape(160, 160).astype(np.uint16)
    Image.fromarray(of_12_bits).save(photos / "cat" / "x-ray.png")
    dim = [each for each in check(photos).findings if each.kind == "few-bits"]
    assert [each.files for each in dim] == [(("cat/x-ray.png", ""),)]
    assert "scale them to 65,535" in dim[0].title
    Image.fromarray(of_12_bits * 16).save(photos / "cat" / "x-ray.png")
    assert "few-bits" not in {each.kind for each in check(photos).findings}


def test_nothing_among_the_pictures_changes_and_json_holds_all(photos, tmp_path, capsys):
    from tapetum import cli

    shutil.copy(photos / "cat" / "3.jpg", photos / "dog" / "x.jpg")
    (photos / "cat" / "<b>.jpg").write_bytes(b"no picture")
    before = tree(photos)
    cli.run(["check", str(photos), "--out", str(tmp_path / "page.html"), "--json"])
    assert tree(photos) == before
    told = json.loads(capsys.readouterr().out)
    assert [each["kind"] for each in told["findings"]] == ["two-labels", "unreadable", "odd-names"]
    assert (told["files"], told["readable"], told["classes"]) == (52, 51, {"cat": 26, "dog": 26})
    page = (tmp_path / "page.html").read_text()
    assert page.count("data:image/jpeg;base64") == 2
    assert "cat/&lt;b&gt;.jpg" in page
    assert "<b>" not in page
    with pytest.raises(SystemExit) as stop:
        cli.run(["check", str(photos), "--strict"])
    assert stop.value.code == 1


def test_the_known_duplicates_of_the_collection(shared, tmp_path):
    """Among every twentieth of its photos and these."""
    twins = ("Cat/8456", "Dog/8736")
    told = [("Cat/10052", "Cat/1930"), ("Cat/10273", "Cat/1639"), ("Dog/8087", "Dog/1947"), ("Dog/3082", "Dog/2027")]
    wanted = {f"PetImages/{name}.jpg" for name in [*itertools.chain(twins, *told), "Cat/666"]}
    with zipfile.ZipFile(shared / "PetImages-180px.zip") as whole, zipfile.ZipFile(tmp_path / "part.zip", "w") as part:
        names = [name for name in whole.namelist() if name.endswith(".jpg")]
        for name in {*names[::20], *wanted}:
            part.writestr(name, whole.read(name))
    found = check(tmp_path / "part.zip")
    groups = {kind: {frozenset(group) for group in each.groups} for each in found.findings for kind in [each.kind]}
    assert found.findings[0].kind == "two-labels"
    assert frozenset(f"PetImages/{name}.jpg" for name in twins) in groups["two-labels"]
    for pair in told:  # shared/data/README.md names the first of each
        assert frozenset(f"PetImages/{name}.jpg" for name in pair) in groups["duplicates"]
    assert ("PetImages/Cat/666.jpg", "empty file") in next(e.files for e in found.findings if e.kind == "unreadable")


def tree(folder):
    return {
        str(path): (path.stat().st_mtime_ns, hashlib.sha256(path.read_bytes()).hexdigest())
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
