"""Recipes are data: complete, frozen, overridable, and refused where they make no sense."""

import pytest
from pydantic import ValidationError

from antiparallel.benchmarks.data.transforms import Preprocessing
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


def test_table_1_s_eight_rows_have_the_paper_s_settings():
    rows = tier_recipes("imagenet")
    assert [f"{row.model}-{row.setting}" for row in rows] == [
        *(f"resnet18-{setting}" for setting in SETTINGS),
        *(f"alexnet-{setting}" for setting in ("bp", "ss", "fa")),
    ]
    for row in rows:
        assert (row.epochs, row.batch_size, row.momentum) == (50, 256, 0.9)
        assert row.lr_drops == (10, 20, 30, 40)
        assert row.preprocessing == Preprocessing(224, 256, "random-resized-crop")
        assert row.scale == "paper"
        if row.model == "alexnet":
            assert (row.lr, row.weight_decay) == (0.01, 5e-4)
        else:
            assert (row.lr, row.weight_decay) == (0.1 if row.setting == "bp" else 0.05, 1e-4)
        assert row.overrides == ({"fc": "bp"} if row.setting.endswith("lastbp") else {})


def test_ablations_have_recipes_that_are_not_rows_of_the_table():
    def changed(setting: str) -> dict[str, object]:
        ours, ss = RECIPES[f"imagenet/resnet18-{setting}"], RECIPES["imagenet/resnet18-ss"]
        return {
            field: value
            for field, value in ours.model_dump().items()
            if value != ss.model_dump()[field] and field not in ("setting", "lr")
        }

    assert changed("ss-fixed") == {"rule": "ss-fixed"}
    assert changed("ss-bm") == {"batch_manhattan": True}
    assert changed("fa-bm") == {"rule": "fa", "batch_manhattan": True}
    assert changed("ss-nsc") == {"keep_signs": True}


@pytest.mark.parametrize("tier", ["imagenette", "cifar10"])
def test_a_small_tier_is_the_same_experiment_at_another_size(tier: str):
    size = {"size", "resize", "augmentation", "epochs", "batch_size", "lr", "lr_drops"}
    machine = {"checkpoint_every", "threads"}
    for recipe in tier_recipes(tier):
        whole = RECIPES[recipe.name.replace(tier, "imagenet")]
        kept = Recipe.model_fields.keys() - size - machine - {"tier", "scale"}
        assert recipe.model_dump(include=kept) == whole.model_dump(include=kept)
        assert recipe.scale == "reference-code"


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
        "steps_per_epoch": "13",
        "batch_size": "11",
        "lr": "1e-3",
        "lr_drops": "2, 4",
        "momentum": "0",
        "weight_decay": "0",
        "checkpoint_every": "9",
        "device": "cuda:0",
        "precision": "bfloat16",
        "error_dtype": "bfloat16",
        "compiled": "yes",
        "threads": "2",
        "batch_manhattan": "true",
        "keep_signs": "yes",
    }
    pictures = {"size": "32", "resize": "40", "augmentation": "random-crop"}
    detectors = {
        "training_pictures": "5",
        "evaluated_on": "validation",
        "backbone": "IMAGENET1K_V1",
        "anchor_size": "3",
        "subnet_scale": "0.05",
    }
    fields = texts.keys() | pictures.keys() | detectors.keys()
    assert fields == Recipe.model_fields.keys() - {"tier", "model"}
    changed = override(RECIPES["coco-tiny/retinanet-ss"], detectors)
    assert (changed.training_pictures, changed.evaluated_on) == (5, "validation")
    assert (changed.backbone, changed.anchor_size) == ("IMAGENET1K_V1", 3)
    assert changed.subnet_scale == 0.05
    changed = override(RECIPES["imagenet/resnet18-ss"], pictures)
    assert changed.preprocessing == Preprocessing(32, 40, "random-crop")
    changed = override(SS, texts)
    assert changed.name == "digits/convnet-mine"
    assert changed.rule == "ss-fixed"
    assert changed.overrides == {"fc": "bp", "conv*": "ss"}
    assert changed.scale == 0.5
    assert (changed.lr, changed.lr_drops) == (1e-3, (2, 4))
    assert (changed.depth, changed.width, changed.epochs) == (3, 5, 7)
    assert changed.steps_per_epoch == 13
    assert changed.batch_manhattan
    assert changed.keep_signs
    assert (changed.precision, changed.compiled) == ("bfloat16", True)


def test_the_learning_rate_falls_by_ten_at_each_drop():
    recipe = override(SS, {"lr": "1", "lr_drops": "1,2.5"})
    rates = [recipe.lr_at(update, 2) for update in range(7)]
    assert rates == pytest.approx([1, 1, 0.1, 0.1, 0.1, 0.01, 0.01], rel=1e-15)


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
        ({"size": "64"}, "for pictures on disk only. Received: size='64'"),
        ({"depth": "none"}, "depth and width for a convnet. Received: depth='none'"),
        ({"lr_drops": "-1"}, "Received: lr_drops='-1'"),
    ],
)
def test_an_override_that_makes_no_sense_is_refused(overrides: dict[str, str], message: str):
    with pytest.raises(SpecError, match=message):
        override(SS, overrides)


def test_pictures_too_small_for_alexnet_are_refused():
    with pytest.raises(SpecError, match=r"Expected size >= 63 .* Received: size='32'"):
        override(RECIPES["imagenette/alexnet-ss"], {"size": "32"})


def test_an_assignment_without_equals_is_refused():
    assert parse_overrides(["lr=1", "overrides=a=b:bp"]) == {"lr": "1", "overrides": "a=b:bp"}
    with pytest.raises(SpecError, match="Received: --set lr"):
        parse_overrides(["lr"])


def test_an_unknown_recipe_or_tier_is_refused_with_the_known_ones():
    with pytest.raises(SpecError, match=r"digits/convnet-bp.*Received: recipe='resnet'"):
        find_recipe("resnet")
    with pytest.raises(SpecError, match=r"digits, imagenet, .*Received: tier='huge'"):
        tier_recipes("huge")


def test_the_coco_recipes_are_the_paper_s_in_all_that_it_says():
    for setting in ("bp", "ss", "fa"):
        recipe = RECIPES[f"coco/retinanet-{setting}"]
        assert recipe.steps_per_epoch is not None
        steps = recipe.steps_per_epoch
        assert recipe.epochs * steps == 40_000
        assert recipe.drops(steps) == [20_000]
        assert recipe.lr_at(19_999, steps) == 0.01
        assert recipe.lr_at(20_000, steps) == pytest.approx(0.001)
        assert (recipe.batch_size, recipe.momentum, recipe.weight_decay) == (8, 0.9, 1e-4)
        last = {"head.classification_head.cls_logits": "bp", "head.regression_head.bbox_reg": "bp"}
        assert (recipe.rule, recipe.overrides) == (setting, {} if setting == "bp" else last)


@pytest.mark.parametrize(
    ("name", "change", "named"),
    [
        ("coco-tiny/retinanet-ss", {"size": "256"}, "32 more than a multiple of 128"),
        ("coco-tiny/retinanet-ss", {"augmentation": "random-crop"}, "Expected flip"),
        ("coco-tiny/retinanet-ss", {"anchor_size": "none"}, "Expected flip, anchor_size"),
        ("imagenette/resnet18-ss", {"backbone": "IMAGENET1K_V1"}, "for a retinanet only"),
        ("imagenette/resnet18-ss", {"augmentation": "flip"}, "for a retinanet only"),
        ("digits/convnet-ss", {"training_pictures": "3"}, "for a retinanet only"),
        ("digits/convnet-ss", {"steps_per_epoch": "0"}, "greater than or equal to 1"),
    ],
)
def test_fields_that_do_not_fit_a_network_are_refused(
    name: str, change: dict[str, str], named: str
):
    with pytest.raises(SpecError, match=named):
        override(RECIPES[name], change)
