import zipfile

import numpy as np
import pytest

from tapetum.data.sources import find_pictures, find_samples
from tapetum.errors import UserError


def tree(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    return folder


def test_class_folders(tmp_path):
    tree(tmp_path, "Dog/1.jpg", "Cat/2.jpg", "Cat/deeper/3.jpg", "readme.txt")
    found = find_samples(tmp_path)
    assert found.layout == "class folders (1 files beside them passed over)"
    assert found.classes == ("Cat", "Dog")
    assert found.names == ("Cat/2.jpg", "Cat/deeper/3.jpg", "Dog/1.jpg")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.describe().endswith("3 files: Cat 2, Dog 1")


def test_a_wrapper_folder_is_looked_through(tmp_path):
    tree(tmp_path, "top/PetImages/Dog/1.jpg", "top/PetImages/Cat/2.jpg", "top/.DS_Store")
    assert find_samples(tmp_path).classes == ("Cat", "Dog")
    tree(tmp_path / "b", "photos/dog.1.jpg", "photos/cat.1.jpg")
    assert find_samples(tmp_path / "b").classes == ("cat", "dog")


def test_split_folders(tmp_path):
    tree(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", "valid/a/3.jpg", "test/b/4.jpg", "notes.txt")
    found = find_samples(tmp_path)
    assert found.layout == "split folders"
    assert found.splits.tolist() == ["train", "train", "test", "val"]
    assert found.labels.tolist() == [0, 1, 1, 0]
    assert "(2 train, 1 val, 1 test)" in found.describe()


def test_a_class_that_training_lacks_is_named(tmp_path):
    tree(tmp_path, "train/horse/1.jpg", "train/dog/1.jpg", "val/hosre/2.jpg")
    with pytest.raises(UserError, match=r"the val part has a class 'hosre'.*Did you mean 'horse'"):
        find_samples(tmp_path)


def test_file_names_that_begin_with_their_class(tmp_path):
    names = ["dog.113.jpg", "cat_001.png", "cat (3).jpg", "Dog-7.jpg", "고양이-1.jpg", "my notes.txt"]
    tree(tmp_path, *names, *(f"cat.{n}.jpg" for n in range(10)))
    found = find_samples(tmp_path)
    assert found.classes == ("cat", "dog", "고양이")
    assert found.counts() == {"cat": 12, "dog": 2, "고양이": 1}
    assert "1 files of other names passed over" in found.layout


def test_a_csv_of_any_dialect(tmp_path):
    tree(tmp_path, "a/1.jpg", "a/2.jpg", "a/3 x.jpg")
    for text in (
        "path,label,split\na/1.jpg,cat,train\na/2.jpg,dog,valid\na/3 x.jpg,dog,\n",
        "﻿Filename;Class;Split\r\na\\1.jpg;cat;train\r\na/2.jpg;dog;val\r\n\r\na/3 x.jpg;dog;\r\n",
        "label\tfile\tsplit\ncat\ta/1.jpg\tTrain\ndog\ta/2.jpg\tvalidation\ndog\ta/3 x.jpg\t\n",
    ):
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
        found = find_samples(tmp_path / "labels.csv")
        assert found.names == ("a/1.jpg", "a/2.jpg", "a/3 x.jpg")
        assert [found.classes[k] for k in found.labels] == ["cat", "dog", "dog"]
        assert found.splits.tolist() == ["train", "val", ""]
        assert found.read(2) == b"x"


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,label\n1.jpg,a\n", r"no column 'path' \(its columns: name, label\)"),
        ("path,split\n1.jpg,train\n", "no column 'label'"),
        ("path,label\n", "has no rows"),
        ("", "no column 'path'"),
        ("path,label\n1.jpg,a\nno.jpg,b\n", r"1 of 2 pictures are missing \(line 3: no.jpg\)"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,tset\n", "line 3: split 'tset' is unknown. Did you mean 'test'"),
        ("path,label\n1.jpg,a\n2.jpg,\n", "line 3: no label"),
        ("path,label\n1.jpg,a\n1.jpg,b\n", "line 3: 1.jpg stands in line 2 with another label"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "only one class, 'a'"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,val\n", "label 'b' of 2.jpg .val. has no training pictures"),
        ("path,label\n1.jpg,cat\n2.jpg,Cat\n", "differ only in case"),
    ],
)
def test_a_csv_with_a_mistake_is_told_where(tmp_path, text, sentence):
    tree(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        find_samples(tmp_path / "labels.csv")


def test_a_csv_of_another_encoding_is_said(tmp_path):
    (tmp_path / "labels.csv").write_bytes("path,label\n고양이.jpg,cat\n".encode("cp949"))
    with pytest.raises(UserError, match="not UTF-8"):
        find_samples(tmp_path / "labels.csv")


def test_archives_of_each_layout(tmp_path):
    with zipfile.ZipFile(tmp_path / "pets.zip", "w") as file:
        for name in ("pets/Cat/1.jpg", "pets/Dog/2.jpg", "pets/Dog/Thumbs.db"):
            file.writestr(name, "x")
    found = find_samples(tmp_path / "pets.zip")
    assert found.layout == "class folders in a zip archive"
    assert found.names == ("pets/Cat/1.jpg", "pets/Dog/2.jpg")


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ([], "is empty"),
        (["Cat/1.jpg", "Cat/2.jpg"], "only one class, 'Cat'"),
        (["a.jpg", "b.jpg", "c.jpg"], "no classes recognised.*one|no classes recognised"),
        (["Cat/1.jpg", "cat/1.jpg"], "'Cat' and 'cat' differ only in case|'cat' and 'Cat'"),
        (["caf\u00e9/1.jpg", "cafe\u0301/1.jpg", "x/1.jpg"], "differ only in case or in Unicode form"),
    ],
)
def test_a_folder_that_cannot_be_used_is_said(tmp_path, names, sentence):
    tree(tmp_path, *names)
    with pytest.raises(UserError, match=sentence):
        find_samples(tmp_path)


def test_a_missing_path_suggests_its_neighbour(tmp_path):
    (tmp_path / "photos").mkdir()
    with pytest.raises(UserError, match=r"fotos does not exist. Did you mean 'photos'"):
        find_samples(tmp_path / "fotos")


def test_numbers_choose_files(tmp_path):
    tree(tmp_path, *(f"{c}/{c}.{n}.jpg" for c in ("cat", "dog") for n in range(20)), "cat/x.jpg")
    found = find_samples(tmp_path, (5, 7))
    assert found.names == tuple(f"{c}/{c}.{n}.jpg" for c in ("cat", "dog") for n in (5, 6, 7))
    with pytest.raises(UserError, match="no file whose number is in 50-60"):
        find_samples(tmp_path, (50, 60))


def test_pictures_to_predict_have_the_names_and_the_order_of_training(tmp_path):
    tree(tmp_path, "Dog/2.jpg", "Dog/10.jpg", "Cat/1.jpg")
    assert find_pictures([tmp_path]).names == find_samples(tmp_path).names
    several = find_pictures([tmp_path / "Dog", tmp_path / "Cat" / "1.jpg"])
    assert [name.removeprefix(tmp_path.as_posix()) for name in several.names] == ["/Dog/10.jpg", "/Dog/2.jpg", "/Cat/1.jpg"]
    assert several.read(2) == b"x"
    assert (several.labels == -1).all()
    with pytest.raises(UserError, match="does not exist"):
        find_pictures([tmp_path / "none.jpg"])


def test_the_real_folder_and_the_real_zip(shared):
    found = find_samples(shared / "cats-dogs")
    assert found.counts() == {"Cat": 1001, "Dog": 1001}
    assert len(find_samples(shared / "cats-dogs", (0, 250))) == 502
    zipped = find_samples(shared / "PetImages-180px.zip")
    assert zipped.layout == "class folders in a zip archive"
    assert sum(zipped.counts().values()) == 21_002


def test_selecting_keeps_order_and_classes(tmp_path):
    tree(tmp_path, *(f"{c}/{n}.jpg" for c in "abc" for n in range(3)))
    found = find_samples(tmp_path)
    some = found.select(np.array([8, 0]))
    assert some.names == ("c/2.jpg", "a/0.jpg")
    assert some.classes == ("a", "b", "c")
    assert found.with_splits(np.array(["val"] * 9)).of_split("val").names == found.names
