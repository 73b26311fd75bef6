"""Picture grids and curves, judged by the pixels of the files that come out."""

from pathlib import Path

import numpy as np
import pytest
from matplotlib import font_manager
from PIL import Image

from tapetum.errors import UserError
from tapetum.looking import grids
from tapetum.looking.grids import curves, prediction_grid

GREEN, RED, BLUE, BLACK = (0x1A, 0x7F, 0x37), (0xCF, 0x22, 0x2E), (0x09, 0x69, 0xDA), (0x24, 0x29, 0x2F)
CELL = 220  # pixels from one column to the next


def gray(height=60, width=60):
    return np.full((height, width, 3), 200, np.uint8)


def pixels(path):
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        return np.asarray(picture.convert("RGB")).astype(int)


def has(pixels_HWC, color, at_least=3):
    """Whether some pixels are of that colour; letters have soft edges, but their middles are full."""
    return int((np.abs(pixels_HWC - color).sum(2) < 12).sum()) >= at_least


def history(num_epochs, **changes):
    return [
        {
            "epoch": i + 1,
            "train_loss": 0.7 * 0.9**i,
            "train_accuracy": 1 - 0.5 * 0.9**i,
            "val_loss": 0.7 * 0.95**i,
            "val_accuracy": 1 - 0.5 * 0.95**i,
            "val_n": 92,
            **changes,
        }
        for i in range(num_epochs)
    ]


# The grid


def test_right_is_green_wrong_is_red_unknown_is_black_each_over_its_own_picture(tmp_path):
    path = prediction_grid([gray()] * 3, ["cat", "cat", None], ["cat", "dog", "dog"], [0.9, 0.6, 0.7], tmp_path / "g.png")
    assert path == tmp_path / "g.png"
    cells = [pixels(path)[:, CELL * i : CELL * (i + 1)] for i in range(3)]
    assert [has(cell, GREEN) for cell in cells] == [True, False, False]
    assert [has(cell, RED) for cell in cells] == [False, True, False]
    assert [has(cell, BLACK) for cell in cells] == [False, False, True]


def test_titles_hold_the_names_the_probability_and_a_sign(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(grids, "write_png", lambda canvas, path: drawn.append(canvas.figure))
    prediction_grid([gray()] * 3, ["cat", "cat", None], ["cat", "dog", "cat"], [0.9, 0.516, 1], tmp_path / "g.png")
    titles = [text.get_text() for text in drawn[0].axes[0].texts]
    assert titles == ["cat\n✓ cat, 90 %", "cat\n✗ dog, 52 %", "cat, 100 %"]


def test_the_pictures_are_shown_as_they_are_in_their_order(tmp_path):
    colors = [(255, 0, 0), (0, 255, 0), (0, 0, 255)]
    pictures = [np.full((30, 30, 3), color, np.uint8) for color in colors]
    found = pixels(prediction_grid(pictures, None, ["a"] * 3, [1.0] * 3, tmp_path / "g.png", columns=2))
    middles = [found[150, 110], found[150, 330], found[410, 110]]
    assert [tuple(map(int, m)) for m in middles] == colors


def test_one_picture_makes_one_column(tmp_path):
    found = pixels(prediction_grid([gray()], None, ["cat"], [1.0], tmp_path / "g.png"))
    assert found.shape[1] == CELL


def test_rows_and_columns_follow_the_number_of_pictures(tmp_path):
    found = pixels(prediction_grid([gray()] * 5, None, ["cat"] * 5, [1.0] * 5, tmp_path / "g.png", columns=2))
    assert found.shape == (3 * 260, 2 * CELL, 3)


def test_pictures_of_any_size_fit(tmp_path):
    pictures = [gray(1, 1), gray(28, 28), gray(3, 900), gray(900, 3), gray(300, 200)]
    found = pixels(prediction_grid(pictures, None, ["cat"] * 5, [0.5] * 5, tmp_path / "g.png"))
    assert found.shape == (260, 5 * CELL, 3)


@pytest.mark.parametrize(
    "name",
    [
        "고양이",
        "$x^2$",
        "cost_$5",
        "$\\frac{$",
        "a_b^c",
        "line\nbreak",
        "猫",
        "🐈",
        "\udcff",
        "",
        " ",
        "W" * 5000,
        "\x00",
        "%s{}",
    ],
)
def test_any_name_is_drawn_without_a_warning(tmp_path, name):
    path = prediction_grid([gray(), gray()], [name, "b"], [name, name], [0.5, 0.5], tmp_path / "g.png", title=name)
    assert has(pixels(path), GREEN)


@pytest.mark.parametrize("name", ["W" * 40, "a rather long name of a class", "고양이" * 10])
def test_long_names_do_not_run_into_the_neighbour(tmp_path, name):
    path = prediction_grid([gray()] * 2, [name] * 2, [name] * 2, [0.5] * 2, tmp_path / "g.png")
    title = pixels(path)[:35]
    assert has(title[:, 20:200], GREEN)
    for edge in (0, CELL, 2 * CELL):
        assert (title[:, max(0, edge - 3) : edge + 3] == 255).all()


def test_hangul_without_a_font_is_romanised_and_the_rest_is_spelt_out():
    only = ["DejaVu Sans"]
    assert grids._drawable("고양이_$1", only) == "goyangi_$1"
    assert grids._drawable("\u1100\u1169\u110b\u1163\u11bc\u110b\u1175", only) == "goyangi"  # as macOS writes it
    assert grids._drawable("猫\n", only) == "U+732BU+000A"
    assert grids._drawable("Café ✓", only) == "Café ✓"


def test_hangul_is_drawn_where_a_font_has_it():
    families = grids._families()
    if families == ["DejaVu Sans"]:
        pytest.skip(f"none of these fonts is installed: {', '.join(grids._KOREAN)}")
    assert grids._drawable("고양이", families) == "고양이"


def test_the_first_korean_font_is_used_beside_matplotlibs_own(monkeypatch):
    assert grids._families()[0] == "DejaVu Sans"
    entries = [font_manager.FontEntry(name=name) for name in ("Malgun Gothic", "NanumGothic", "DejaVu Sans")]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", entries)
    assert grids._families() == ["DejaVu Sans", "NanumGothic"]


def test_no_pictures_are_the_users_to_mend(tmp_path):
    with pytest.raises(UserError, match="no pictures"):
        prediction_grid([], [], [], [], tmp_path / "g.png")
    assert list(tmp_path.iterdir()) == []


def test_names_that_do_not_match_the_pictures_are_a_bug(tmp_path):
    with pytest.raises(ValueError, match="shorter"):
        prediction_grid([gray()] * 2, None, ["cat"], [0.5, 0.5], tmp_path / "g.png")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("picture", [np.zeros((4, 4), np.uint8), np.zeros((4, 4, 3)), np.zeros((0, 4, 3), np.uint8)])
def test_what_is_no_picture_is_a_bug(tmp_path, picture):
    with pytest.raises(ValueError, match="expected uint8"):
        prediction_grid([picture], None, ["cat"], [0.5], tmp_path / "g.png")


def test_an_old_file_is_replaced_whole_and_nothing_else_stays(tmp_path):
    path = tmp_path / "g.png"
    path.write_bytes(b"old")
    prediction_grid([gray()], None, ["cat"], [0.5], path)
    assert pixels(path).shape[1] == CELL
    assert list(tmp_path.iterdir()) == [path]


def test_the_same_input_gives_the_same_bytes(tmp_path):
    files = [prediction_grid([gray()], ["a"], ["b"], [0.5], tmp_path / name).read_bytes() for name in ("1.png", "2.png")]
    assert files[0] == files[1]


def test_real_photos_of_different_shapes(tmp_path):
    folder = Path(__file__).parents[3] / "shared" / "data" / "cats-dogs" / "Cat"
    if not folder.is_dir():
        pytest.skip(f"the real pictures are not at {folder}")
    pictures = []
    for file in sorted(folder.iterdir())[:6]:
        with Image.open(file) as picture:
            pictures.append(np.asarray(picture.convert("RGB")))
    found = pixels(prediction_grid(pictures, ["Cat"] * 6, ["Cat", "Dog"] * 3, [0.7] * 6, tmp_path / "g.png", columns=3))
    assert has(found, GREEN)
    assert has(found, RED)


# The curves


def test_curves_show_training_validation_and_the_interval(tmp_path):
    path = curves(history(12), tmp_path / "c.png")
    left, right = np.split(pixels(path), 2, axis=1)
    band = tuple(round(255 - 0.12 * (255 - channel)) for channel in BLUE)
    for half in (left, right):
        assert has(half, BLACK)
        assert has(half, BLUE)
    assert has(right, band, at_least=1000)
    assert not has(left, band, at_least=1000)


def test_the_band_is_wilsons(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(grids, "write_png", lambda canvas, path: drawn.append(canvas.figure))
    curves(history(3, val_accuracy=59 / 92), tmp_path / "c.png")
    corners = drawn[0].axes[1].collections[0].get_paths()[0].vertices
    assert corners[:, 1].min() == pytest.approx(0.539, abs=0.0005)
    assert corners[:, 1].max() == pytest.approx(0.732, abs=0.0005)


@pytest.mark.parametrize("num_epochs", [1, 2, 300])
def test_curves_of_any_length(tmp_path, num_epochs):
    right = np.split(pixels(curves(history(num_epochs), tmp_path / "c.png")), 2, axis=1)[1]
    assert has(right, BLUE)


def test_an_unknown_training_accuracy_is_left_out(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(grids, "write_png", lambda canvas, path: drawn.append(canvas.figure))
    curves(history(5, train_accuracy=None), tmp_path / "c.png")
    names = [[line.get_label() for line in axes.lines] for axes in drawn[0].axes]
    assert names == [["training", "validation"], ["validation"]]


def test_accuracies_near_the_top_keep_different_tick_labels(tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(grids, "write_png", lambda canvas, path: drawn.append(canvas.figure))
    curves(history(5, train_accuracy=0.999, val_accuracy=0.999, val_n=1_000_000), tmp_path / "c.png")
    accuracy = drawn[0].axes[1]
    drawn[0].canvas.draw()
    labels = [label.get_text() for label in accuracy.get_yticklabels()]
    assert len(set(labels)) == len(labels) > 1
    assert accuracy.get_ylim()[1] <= 1.01
