"""Recipes are data: complete, frozen, overridable, and refused where they make no sense."""

import pytest
from pydantic import ValidationError

from antiparallel.benchmarks.recipes import (
    RECIPES,
    SETTINGS,
    Recipe,
    find_recipe,
    override,
    parse_overrides,
    tier_recipes,
)
from antiparallel.spec import SpecError

SS = RECIPES["digits/convnet-ss"]


def test_the_digits_tier_has_the_papers_five_settings_in_order():
    assert [recipe.setting for recipe in tier_recipes("digits")] == list(SETTINGS)
    assert list(SETTINGS) == ["bp", "ss", "ss-lastbp", "fa", "fa-lastbp"]


def test_settings_of_one_tier_differ_in_their_rules_only():
    compared = {"setting", "rule", "overrides"}
    dumps = [recipe.model_dump(exclude=compared) for recipe in tier_recipes("digits")]
    assert all(dump == dumps[0] for dump in dumps)


@pytest.mark.parametrize("setting", ["ss-lastbp", "fa-lastbp"])
def test_lastbp_gives_backprop_to_the_last_layer(setting: str):
    assert RECIPES[f"digits/convnet-{setting}"].overrides == {"fc": "bp"}


def test_a_recipe_is_frozen():
    with pytest.raises(ValidationError):
        SS.lr = 1.0


def test_every_field_but_tier_and_model_can_be_overridden():
    texts = {
        "setting": "mine",
        "rule": "frsf",
        "overrides": "fc:bp, conv*:ss",
        "scale": "0.5",
        "depth": "3",
        "width": "5",
        "epochs": "7",
        "batch_size": "11",
        "lr": "1e-3",
        "lr_drops": "2, 4",
        "momentum": "0",
        "weight_decay": "0",
        "checkpoint_every": "9",
        "device": "cuda:0",
        "threads": "2",
    }
    assert texts.keys() == Recipe.model_fields.keys() - {"tier", "model"}
    changed = override(SS, texts)
    assert changed.name == "digits/convnet-mine"
    assert changed.rule == "ss-fixed"
    assert changed.overrides == {"fc": "bp", "conv*": "ss"}
    assert changed.scale == 0.5
    assert (changed.lr, changed.lr_drops) == (1e-3, (2, 4))
    assert (changed.depth, changed.width, changed.epochs) == (3, 5, 7)


def test_the_learning_rate_falls_by_ten_at_each_drop():
    recipe = override(SS, {"lr": "1", "lr_drops": "2,4"})
    rates = [recipe.lr_at(epoch) for epoch in range(6)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.01, 0.01], rel=1e-15)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"colour": "red"}, "Received: colour"),
        ({"tier": "imagenet"}, "Received: tier"),
        ({"epochs": "many"}, "Received: epochs='many'"),
        ({"epochs": "0"}, "Received: epochs='0'"),
        ({"lr": "nan"}, "Received: lr='nan'"),
        ({"rule": "hebb"}, "Received: rule='hebb'"),
        ({"overrides": "fc"}, "Received: overrides='fc'"),
        ({"overrides": "fc:hebb"}, "hebb"),
        ({"scale": "large"}, "Received: scale='large'"),
        ({"rule": "fa"}, "--set setting="),
        ({"setting": "../elsewhere"}, "Received: setting='../elsewhere'"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(overrides: dict[str, str], message: str):
    with pytest.raises(SpecError, match=message):
        override(SS, overrides)


def test_an_assignment_without_equals_is_refused():
    assert parse_overrides(["lr=1", "overrides=a=b:bp"]) == {"lr": "1", "overrides": "a=b:bp"}
    with pytest.raises(SpecError, match="Received: --set lr"):
        parse_overrides(["lr"])


def test_an_unknown_recipe_or_tier_is_refused_with_the_known_ones():
    with pytest.raises(SpecError, match=r"digits/convnet-bp.*Received: recipe='resnet'"):
        find_recipe("resnet")
    with pytest.raises(SpecError, match=r"digits\. Received: tier='huge'"):
        tier_recipes("huge")
