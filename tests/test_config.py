import dataclasses
import tomllib

import pytest

from tapetum.config import Recipe, Settings, decide, read_settings, settings_from, to_toml
from tapetum.errors import UserError


def test_every_field_of_the_recipe_is_a_setting_of_the_same_name():
    names = {field.name for field in dataclasses.fields(Settings)}
    assert {field.name for field in dataclasses.fields(Recipe)} <= names


def test_every_setting_has_a_sentence_of_help():
    import ast
    import inspect

    body = ast.parse(inspect.getsource(Settings)).body[0].body
    for node, after in zip(body, body[1:], strict=False):
        if isinstance(node, ast.AnnAssign):
            assert isinstance(after, ast.Expr), f"{node.target.id} has no help"
            assert after.value.value.endswith("."), node.target.id
            assert "\n" not in after.value.value, f"--help would break the line of {node.target.id}"


def test_settings_survive_a_toml_file(tmp_path):
    settings = Settings(model="lenet", epochs=3, lr=0.5, crop_area=0.3, numbers="0-250")
    path = tmp_path / "settings.toml"
    about = {"why": 'say "no"\\\n고양이\x7f'}
    path.write_text(to_toml({"asked": dataclasses.asdict(settings), "about": about}), encoding="utf-8")
    assert tomllib.loads(path.read_text(encoding="utf-8"))["about"]["why"] == 'say "no"\\\n고양이\x7f'
    assert settings_from(read_settings(path), "file") == settings


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"epoch": 3}, "unknown setting 'epoch'. Did you mean 'epochs'"),
        ({"epochs": "x"}, "epochs is 'x': expected auto or a whole number"),
        ({"epochs": 2.5}, "epochs is 2.5"),
        ({"epochs": True}, "epochs is True"),
        ({"fit": "cut"}, "expected auto or crop or pad or center or squash"),
        ({"lr": -1.0}, "lr is -1.0: expected a number from"),
        ({"lr": float("nan")}, "lr is nan"),
        ({"val": 0.6, "test": 0.5}, "leave no pictures to train on"),
        ({"minutes": 0}, "minutes is 0"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_a_value_that_cannot_be_is_refused_with_a_sentence(values, sentence):
    with pytest.raises(UserError, match=sentence.replace("(", r"\(")):
        settings_from(values, "here")


def test_a_settings_file_that_is_none_is_refused(tmp_path):
    with pytest.raises(UserError, match="could not read"):
        read_settings(tmp_path / "none.toml")
    (tmp_path / "a.toml").write_text("epochs = = 3")
    with pytest.raises(UserError, match="is not a TOML file"):
        read_settings(tmp_path / "a.toml")


def test_what_was_asked_wins_over_what_is_chosen():
    choices = {field.name: 0 for field in dataclasses.fields(Recipe)}
    assert decide(Settings(epochs=9), choices).epochs == 9
    assert decide(Settings(), choices).epochs == 0
