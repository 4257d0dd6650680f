import argparse
import dataclasses
import inspect
import re

import numpy as np
import pytest

from keras_fcn.cli.options import add_setting
from keras_fcn.cli.parser import build_parser
from keras_fcn.training.recipe import PATHS, SETTINGS, Recipe
from keras_fcn.training.settings import as_arguments, as_table, setting, settings_of

pytestmark = pytest.mark.any_backend


@dataclasses.dataclass
class Example:
    size: tuple[int, int] | None = setting(None, help="size of `name`", minimum=1)
    factors: tuple[float, ...] = setting((1.0,), help="some factors", above=0)
    rate: float = setting(0.5, help="a rate", minimum=0, below=1)
    name: str | None = setting(None, help="a name", choices=("a", "b"))
    part: float = setting(1.0, help="a part", above=0, maximum=1)
    rare: tuple[str, ...] | None = setting(None, help="rare classes", is_class=True)


class TestSetting:
    @pytest.mark.parametrize(
        ("name", "value", "checked"),
        [
            ("size", [3, 4], (3, 4)),
            ("size", None, None),
            ("factors", [2, 0.5], (2.0, 0.5)),
            ("rate", 0, 0.0),
            ("name", "b", "b"),
            ("part", 1, 1.0),
            ("rare", ["pole", 9], ("pole", "9")),
        ],
    )
    def test_valid_values_become_the_declared_type(self, name, value, checked):
        result = settings_of(Example)[name].checked(value)
        assert (result, type(result)) == (checked, type(checked))

    @pytest.mark.parametrize(
        ("name", "value", "rule"),
        [
            ("size", [3], "2 integers"),
            ("size", 3, "2 integers"),
            ("size", [3, 0], "at least 1 each"),
            ("size", [3, True], "an integer"),
            ("factors", [], "one or more numbers"),
            ("factors", None, "one or more numbers"),
            ("factors", [1, 0], "greater than 0 each"),
            ("rate", 1, "at least 0 and less than 1"),
            ("rate", "1", "a number"),
            ("rate", float("inf"), "a finite number"),
            ("rate", float("nan"), "a finite number"),
            ("rate", 10**400, "a finite number"),
            ("size", [3, 2**63], "an integer of 64 bits"),
            ("name", "c", "one of none, a, b"),
            ("part", 1.01, "greater than 0 and at most 1"),
            ("rare", [], "one or more names or ids of classes"),
            ("rare", [True], "one or more names or ids of classes"),
            ("rare", "pole", "one or more names or ids of classes"),
        ],
    )
    def test_an_error_states_the_rule_and_the_value(self, name, value, rule):
        message = f"`{name}` must be {rule}. Received: {name}={value!r}."
        with pytest.raises(ValueError, match=re.escape(message)):
            settings_of(Example)[name].checked(value)

    def test_a_table_has_the_default_the_values_and_the_help(self):
        assert as_table(Example).splitlines()[2:] == [
            "| `size` | none | 2 integers, at least 1 each, or none | Size of `name`. |",
            "| `factors` | `[1.0]` | one or more numbers, greater than 0 each | Some factors. |",
            "| `rate` | `0.5` | a number, at least 0 and less than 1 | A rate. |",
            "| `name` | none | `a`, `b`, or none | A name. |",
            "| `part` | `1` | a number, greater than 0 and at most 1 | A part. |",
            "| `rare` | none | one or more names or ids of classes, or none | Rare classes. |",
        ]

    def test_a_docstring_lists_the_settings(self):
        first = as_arguments(Example).splitlines()[:2]
        assert first == ["Args:", "    size: Size of `name`."]


class TestSettingsOfRecipe:
    def test_help_of_the_class_lists_all(self):
        for name in SETTINGS:
            assert f"\n    {name}: " in inspect.getdoc(Recipe)

    def test_all_folders_are_paths(self):
        assert (
            *("data_dir", "manual_dir", "images", "labels"),
            *("val_images", "val_labels"),
        ) == PATHS

    @pytest.mark.parametrize("name", SETTINGS)
    def test_a_default_is_valid(self, name):
        default = SETTINGS[name].default
        assert SETTINGS[name].checked(default) == default

    def test_the_largest_seed_is_that_of_numpy(self):
        np.random.RandomState(2**32 - 1)
        assert SETTINGS["seed"].checked(2**32 - 1) == 2**32 - 1
        message = "`seed` must be at least 0 and at most 4294967295. Received: seed=4294967296."
        with pytest.raises(ValueError, match=re.escape(message)):
            SETTINGS["seed"].checked(2**32)


class TestOptions:
    """The options of `keras-fcn train` follow from the settings."""

    def options(self, *arguments):
        return vars(build_parser().parse_args(["train", *arguments]))

    def test_an_option_that_is_not_given_changes_nothing(self):
        assert not SETTINGS.keys() & self.options().keys()

    @pytest.mark.parametrize(
        ("arguments", "name", "value"),
        [
            (["--crop", "320", "480"], "crop", [320, 480]),
            (["--no-jitter"], "jitter", False),
            (["--palette"], "palette", True),
            (["--crop-classes", "pole", "9"], "crop_classes", ["pole", "9"]),
            (["--rotation", "5"], "rotation", 5.0),
            (["--learning-rate", "1e-3"], "learning_rate", 1e-3),
            (["--model", "fcn16s"], "model", "fcn16s"),
            (["--images", "photos"], "images", "photos"),
        ],
    )
    def test_values_have_the_type_of_the_setting(self, arguments, name, value):
        result = self.options(*arguments)[name]
        assert (result, type(result)) == (value, type(value))

    def test_all_declared_options_exist_and_no_others(self):
        shown = build_parser().parse_args(["train"]).parser.format_help()
        for declared in SETTINGS.values():
            found = re.search(f"{declared.option_name}(?![a-z-])", shown) is not None
            assert found == declared.option, declared.name

    def test_help_names_options_in_place_of_settings(self):
        parser = argparse.ArgumentParser()
        add_setting(parser, "num_classes")
        assert "instead of --label-space" in parser.format_help()
