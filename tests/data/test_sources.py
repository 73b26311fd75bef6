import os
import re
import tarfile
import zipfile

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
    assert found.layout == "class folders (1 file beside them passed over)"
    assert found.classes == ("Cat", "Dog")
    assert found.names == ("Cat/2.jpg", "Cat/deeper/3.jpg", "Dog/1.jpg")
    assert found.labels.tolist() == [0, 0, 1]
    assert found.describe().endswith("3 files: Cat 2, Dog 1")


def test_a_wrapper_folder_is_looked_through(tmp_path):
    tree(tmp_path, "top/PetImages/Dog/1.jpg", "top/PetImages/Cat/2.jpg", "top/.DS_Store")
    assert find_samples(tmp_path).classes == ("Cat", "Dog")
    tree(tmp_path / "b", "photos/dog.1.jpg", "photos/cat.1.jpg")
    assert find_samples(tmp_path / "b").classes == ("cat", "dog")


def test_the_download_of_microsoft_has_files_beside_its_wrapper(tmp_path):
    tree(tmp_path, "PetImages/Cat/0.jpg", "PetImages/Dog/0.jpg", "readme[1].txt", "CDLA-Permissive-2.0.pdf")
    found = find_samples(tmp_path)
    assert found.names == ("PetImages/Cat/0.jpg", "PetImages/Dog/0.jpg")
    assert found.layout == "class folders (2 files beside them passed over)"


def test_a_folder_beside_files_named_by_class_is_no_wrapper(tmp_path):
    tree(tmp_path, "cat.1.jpg", "dog.1.jpg", "extras/a/1.jpg", "extras/b/1.jpg")
    with pytest.raises(UserError, match="only one class, 'extras'"):
        find_samples(tmp_path)


@pytest.mark.parametrize(
    "names",
    [
        ("train/cat.1.jpg", "train/dog.1.jpg", "test1/1.jpg"),  # as Kaggle's competition gives it
        ("train/1.jpg", "val/1.jpg"),
        ("val/Cat/1.jpg", "val/Dog/1.jpg", "test/Cat/1.jpg"),
    ],
)
def test_parts_are_not_taken_for_classes(tmp_path, names):
    with pytest.raises(UserError, match="no class folders in a train folder"):
        find_samples(tree(tmp_path, *names), (0, 5))


def test_a_class_may_be_called_train(tmp_path):
    assert find_samples(tree(tmp_path, "train/1.jpg", "bus/1.jpg", "bus/2.jpg")).counts() == {"bus": 2, "train": 1}
    found = find_samples(
        tree(tmp_path / "nested", *(f"{c}/{side}/{n}.jpg" for c in ("bus", "car", "train") for side in "ab" for n in "12"))
    )
    assert (found.layout, found.classes, len(found)) == ("class folders", ("bus", "car", "train"), 12)


def test_a_train_folder_alone_is_a_wrapper(tmp_path):
    found = find_samples(tree(tmp_path, "train/Cat/1.jpg", "train/Dog/1.jpg"))
    assert found.classes == ("Cat", "Dog")
    assert set(found.splits) == {""}
    assert find_samples(tree(tmp_path / "flat", "train/cat.1.jpg", "train/dog.1.jpg")).classes == ("cat", "dog")


def test_split_folders(tmp_path):
    tree(tmp_path, "Train/a/1.jpg", "Train/b/2.jpg", "valid/a/3.jpg", "test/b/4.jpg", "notes.txt")
    found = find_samples(tmp_path)
    assert found.layout == "split folders (1 file beside them passed over)"
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
    assert "1 file of other names passed over" in found.layout


def test_unicode_forms_are_one_class_in_file_names(tmp_path):
    tree(tmp_path, "cafe\u0301.1.jpg", "caf\u00e9.2.jpg", "बिल्ली.1.jpg", "बकरी.1.jpg", "บ้าน 1.jpg")
    assert find_samples(tmp_path).counts() == {"caf\u00e9": 2, "बकरी": 1, "बिल्ली": 1, "บ้าน": 1}


def test_a_thousand_awkward_names(tmp_path):
    signs = [
        "고양이",
        "猫 咪",
        "a'b",
        'q"q',
        "-rf",
        "$(x)",
        "%s",
        "{0}",
        "a;b",
        "é",
        "e\u0301",
        "\U0001f431",
        "tab\t",
        "new\nline",
        "\udcff",
    ]
    for label in ("강아지 사진", "Katze, groß"):
        (tmp_path / label).mkdir()
        for n in range(500):
            (tmp_path / label / f"{signs[n % len(signs)]}_{n}.jpg").write_bytes(f"{label}{n}".encode())
    found = find_samples(tmp_path)
    assert found.counts() == {"Katze, groß": 500, "강아지 사진": 500}
    for i, name in enumerate(found.names):
        label, _, rest = name.partition("/")
        assert found.read(i).decode() == label + rest.rsplit("_", 1)[1].removesuffix(".jpg")
    assert len(find_samples(tmp_path, (0, 9))) == 20
    assert find_pictures([tmp_path]).names == found.names


def test_a_csv_of_any_dialect(tmp_path):
    tree(tmp_path, "a/1.jpg", "a/2.jpg", "a/3 x.jpg")
    for text in (
        "path,label,split\na/1.jpg,cat,train\na/2.jpg,dog,valid\na/3 x.jpg,dog,\n",
        "﻿\r\n\r\nFilename;Class;Split\r\na\\1.jpg;cat;train\r\na/2.jpg;dog;val\r\n\r\na/3 x.jpg;dog;\r\n",
        "label\tfile\tsplit\ncat\ta/1.jpg\tTrain\ndog\ta/2.jpg\tvalidation\ndog\ta/3 x.jpg\t\n",
    ):
        (tmp_path / "labels.csv").write_text(text, encoding="utf-8", newline="")
        found = find_samples(tmp_path / "labels.csv")
        assert found.names == ("a/1.jpg", "a/2.jpg", "a/3 x.jpg")
        assert [found.classes[k] for k in found.labels] == ["cat", "dog", "dog"]
        assert found.splits.tolist() == ["train", "val", ""]
        assert found.read(2) == b"x"


def test_a_csv_may_hold_a_test_part_only_and_one_file_twice(tmp_path):
    tree(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "t.csv").write_text("path,label,split\n1.jpg,a,test\n./1.jpg,a,test\n2.jpg,b,test\n")
    found = find_samples(tmp_path / "t.csv")
    assert found.names == ("1.jpg", "2.jpg")
    assert found.splits.tolist() == ["test", "test"]


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("name,label\n1.jpg,a\n", r"no column 'path' \(its columns: name, label\)"),
        ("path,split\n1.jpg,train\n", "no column 'label'"),
        ("path,label\n", "has no rows"),
        ("", "no column 'path'"),
        ("path,label\n1.jpg,a\nno.jpg,b\n", "line 3: no.jpg is missing"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,tset\n", "line 3: split 'tset' is unknown. Did you mean 'test'"),
        ("path,label\n1.jpg,a\n2.jpg,\n", "line 3: no label"),
        ("path,label\n1.jpg,a\n1.jpg,b\n", "line 3: 1.jpg stands in line 2 with another label"),
        ("path,label\n1.jpg,a\n2.jpg,a\n", "only one class, 'a'"),
        ("path,label,split\n1.jpg,a,train\n2.jpg,b,val\n", "label 'b' of 2.jpg .val. has no training pictures"),
        ("path,label\n1.jpg,cat\n2.jpg,Cat\n", "differ only in case"),
        ("path,label\n\n1.jpg,a\n\n,b\n", "line 5: no path"),
        ('path,label\n"1.jpg,a\n2.jpg,' + "b" * 200_000, "line 3 is no line of a CSV file"),
    ],
)
def test_a_csv_with_a_mistake_is_told_where(tmp_path, text, sentence):
    tree(tmp_path, "1.jpg", "2.jpg")
    (tmp_path / "labels.csv").write_text(text)
    with pytest.raises(UserError, match=sentence):
        find_samples(tmp_path / "labels.csv")


def test_all_mistakes_of_a_csv_are_told_at_once(tmp_path):
    tree(tmp_path, "1.jpg", "2.jpg")
    lines = ["1.jpg,a", "none.jpg,b", "", "2.jpg", "1.jpg,b", "2.jpg,A", "2.jpg,A,nowhere", *(f"{n}.png,b" for n in range(20))]
    (tmp_path / "labels.csv").write_text("path,label,split\n" + "\n".join(lines))
    with pytest.raises(UserError) as told:
        find_samples(tmp_path / "labels.csv")
    places = [int(line) for line in re.findall(r"line (\d+): ", str(told.value))]
    assert places == [3, 5, 6, 7, 8, *range(9, 24)]
    assert "And 5 more." in str(told.value)


def test_a_csv_of_another_encoding_is_said(tmp_path):
    (tmp_path / "labels.csv").write_bytes("path,label\n고양이.jpg,cat\n".encode("cp949"))
    with pytest.raises(UserError, match="not UTF-8"):
        find_samples(tmp_path / "labels.csv")


ARCHIVED = {
    "class folders": ("pets/Cat/1.jpg", "pets/Dog/2.jpg"),
    "split folders": ("train/Cat/1.jpg", "train/Dog/2.jpg", "val/Cat/3.jpg"),
    "file names that begin with their class": ("all/cat.1.jpg", "all/dog.2.jpg"),
}


@pytest.mark.parametrize("layout", ARCHIVED)
@pytest.mark.parametrize("mode", ["zip", "w", "w:gz", "w:bz2", "w:xz"])
def test_each_layout_in_each_archive_whatever_its_name(tmp_path, layout, mode):
    path = tmp_path / "download"
    if mode == "zip":
        with zipfile.ZipFile(path, "w") as file:
            for name in ARCHIVED[layout]:
                file.writestr(name, name)
    else:
        tree(tmp_path / "source", *ARCHIVED[layout])
        with tarfile.open(path, mode) as file:
            file.add(tmp_path / "source", ".")
    found = find_samples(path)
    assert found.layout == f"{layout} in a {'zip' if mode == 'zip' else 'tar'} archive"
    assert found.names == ARCHIVED[layout]
    assert find_pictures([path]).names == ARCHIVED[layout]
    assert len(found.stamps()) == len(found)


def test_an_archive_alone_in_a_folder_is_its_content(tmp_path):
    (tmp_path / "pets").mkdir()
    with zipfile.ZipFile(tmp_path / "pets" / "download", "w") as file:
        for name in ("Cat/1.jpg", "Dog/1.jpg"):
            file.writestr(name, name)
    (tmp_path / "pets" / ".DS_Store").write_text("")
    found = find_samples(tmp_path / "pets")
    assert (found.layout, found.origin) == ("class folders in a zip archive", tmp_path / "pets")
    assert found.read(1) == b"Dog/1.jpg"
    assert find_pictures([tmp_path / "pets"]).names == found.names
    (tmp_path / "pets" / "1.jpg").write_text("")  # beside another file it is one that gives no picture
    assert find_pictures([tmp_path / "pets"]).names == ("1.jpg", "download")


def test_what_an_archive_leaves_out_is_said(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        for name in ("Cat/1.jpg", "Dog/1.jpg", "../evil.jpg"):
            file.writestr(name, "x")
    assert (
        "(1 file left out, such as ../evil.jpg: its name points outside the archive)" in find_samples(tmp_path / "a.zip").layout
    )
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("../evil.jpg", "x")
    for find in (find_samples, find_pictures):
        with pytest.raises(UserError, match=r"holds nothing that can be read \(1 file left out, such as ../evil.jpg"):
            find(tmp_path / "b.zip")


def test_rubbish_in_an_archive_is_passed_over(tmp_path):
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
        (["a.jpg", "b.jpg", "c.jpg"], r"no classes recognised.*\(3 files, such as a\.jpg\).*CSV with path and label"),
        (["dog.1.jpg", "dog.2.jpg"], "no classes recognised"),
        (["cat.1.jpg", "dog.1.jpg", "bird.jpg"], "such as bird.jpg"),
        (["train/Cat/1.jpg", "train/Dog/1.jpg", "val/cat/1.jpg"], "class folders '(C|c)at' and '(C|c)at' differ only in case"),
        ([".git/a/1.jpg", "Thumbs.db"], "is empty"),
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
    for bad in ("photos/" + "x" * 5000, "nul\0"):
        with pytest.raises(UserError, match="cannot be opened"):
            find_samples(tmp_path / bad)


@pytest.mark.parametrize("find", [find_samples, lambda path: find_pictures([path])])
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, find):
    os.mkfifo(tmp_path / "pipe.csv")
    with pytest.raises(UserError, match="neither a folder"):
        find(tmp_path / "pipe.csv")


def test_numbers_choose_files(tmp_path):
    tree(tmp_path, *(f"{c}/{c}.{n}.jpg" for c in ("cat", "dog") for n in range(20)), "cat/x.jpg")
    found = find_samples(tmp_path, (5, 7))
    assert found.names == tuple(f"{c}/{c}.{n}.jpg" for c in ("cat", "dog") for n in (5, 6, 7))
    with pytest.raises(UserError, match="no file whose number is in 50-60"):
        find_samples(tmp_path, (50, 60))
    tree(tmp_path, "horse/99.jpg")
    with pytest.raises(UserError, match="class 'horse' has no file whose number is in 5-7"):
        find_samples(tmp_path, (5, 7))


def test_pictures_to_predict_have_the_names_and_the_order_of_training(tmp_path):
    tree(tmp_path, "Dog/2.jpg", "Dog/10.jpg", "Cat/1.jpg")
    assert find_pictures([tmp_path]).names == find_samples(tmp_path).names
    several = find_pictures([tmp_path / "Dog", tmp_path / "Cat" / "1.jpg"])
    assert [name.removeprefix(tmp_path.as_posix()) for name in several.names] == ["/Dog/10.jpg", "/Dog/2.jpg", "/Cat/1.jpg"]
    assert several.read(2) == b"x"
    assert (several.labels == -1).all()
    with pytest.raises(UserError, match="does not exist"):
        find_pictures([tmp_path / "none.jpg"])
    with pytest.raises(UserError, match="list of paths is empty"):
        find_pictures([])


def test_pictures_to_predict_may_be_named_one_by_one(tmp_path):
    tree(tmp_path, "photo.zip.jpg", "a/2.jpg")
    one = find_pictures(tmp_path / "photo.zip.jpg")
    assert one.names == ((tmp_path / "photo.zip.jpg").as_posix(),)
    assert one.describe() == "pictures, 1 file"
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as file:
        file.writestr("c/3.jpg", "zipped")
    # The last stands in the folder already: each name stands once.
    paths = [tmp_path / "a", tmp_path / "b.zip", tmp_path / "a" / "2.jpg"]
    found = find_pictures(paths)
    assert found.names == ((tmp_path / "a/2.jpg").as_posix(), (tmp_path / "b.zip/c/3.jpg").as_posix())
    assert found.read(1) == b"zipped"
    (tmp_path / "a" / "2.jpg").unlink()
    with pytest.raises(FileNotFoundError):
        found.read(0)


def test_the_real_folder_and_the_real_zip(shared):
    found = find_samples(shared / "cats-dogs")
    assert found.counts() == {"Cat": 1001, "Dog": 1001}
    assert len(find_samples(shared / "cats-dogs", (0, 250))) == 502
    zipped = find_samples(shared / "PetImages-180px.zip")
    assert zipped.layout == "class folders in a zip archive"
    assert zipped.counts() == {"Cat": 10_501, "Dog": 10_501}
    assert zipped.read(zipped.names.index("PetImages/Cat/666.jpg")) == b""
