"""The table of a model's weight layers."""

import pytest
import torch
from torch import nn

import antiparallel.torch as ap


def test_every_weight_layer_is_listed_with_rule_lambda_and_feedback(
    small_network: nn.Sequential,
) -> None:
    ap.convert(small_network, "ss", overrides={"3": "fa", "6": "bp"}, scale=0.5)
    rows = ap.summary(small_network).rows
    assert [(row.name, row.kind, row.rule, row.feedback_scale) for row in rows] == [
        ("0", "Conv2d", "ss", 0.5),
        ("3", "Conv2d", "fa", 0.5),
        ("6", "Linear", "bp", None),
    ]
    assert [row.feedback_parameters for row in rows] == [0, 4 * 4 * 3 * 3, 0]


def test_the_table_reads_as_text(small_network: nn.Sequential) -> None:
    small_network.add_module("words", nn.Embedding(3, 4))
    ap.convert(small_network, "ss")
    assert str(ap.summary(small_network)).splitlines() == [
        "layer  kind       rule  lambda    feedback parameters",
        "0      Conv2d     ss    0.235702  0",
        "3      Conv2d     ss    0.235702  0",
        "6      Linear     ss    0.447214  0",
        "words  Embedding  -     -         0                    "
        "left alone: no rule for this kind; weight: by backprop",
    ]


def test_a_plain_model_has_no_rule(small_network: nn.Sequential) -> None:
    rows = ap.summary(small_network).rows
    assert not any(row.converted for row in rows)
    assert {row.reason for row in rows} == {"a plain torch.nn layer"}


def test_other_owners_of_weight_matrices_are_listed() -> None:
    model = nn.ModuleDict(
        {
            "lstm": nn.LSTM(3, 4),
            "bilinear": nn.Bilinear(2, 3, 4),
            "attention": nn.MultiheadAttention(4, 2),
            "norm": nn.LayerNorm(4),
            "linear": nn.Linear(4, 4),
            "normed": nn.utils.parametrizations.spectral_norm(nn.Embedding(3, 4)),
        }
    )
    table = ap.summary(ap.convert(model))
    assert [row.name for row in table.rows] == [
        "lstm",
        "bilinear",
        "attention",
        "attention.out_proj",
        "linear",
        "normed",
    ]
    assert [row.name for row in table.rows if row.converted] == ["linear"]
    assert "in_proj_weight" in table["attention"].reason
    assert "weight_ih_l0" in table["lstm"].reason


def test_our_layer_in_a_place_where_it_is_not_called_is_not_reported_as_following_its_rule() -> (
    None
):
    attention = nn.MultiheadAttention(4, 2)
    attention.out_proj = ap.Linear(4, 4, rule="fa")  # type: ignore[assignment]
    row = ap.summary(attention)["out_proj"]
    assert not row.converted
    assert row.reason == "its weight is read by MultiheadAttention.forward, not used by calling it"


class Reader(nn.Module):
    """Code around layers that reads their weights, harmlessly or not."""

    def __init__(self) -> None:
        super().__init__()
        self.metadata, self.values, self.started = nn.Linear(2, 2), nn.Linear(2, 2), nn.Linear(2, 2)
        self.nested = nn.Sequential()
        self.nested.inner = nn.Linear(2, 2)
        self.started.weight.data.zero_()

    def init_weights(self) -> None:
        self.started.weight.data.fill_(1.0)

    def average(self) -> None:
        with torch.no_grad():
            self.started.weight.mul_(0.5).add_(self.metadata.weight, alpha=0.5)

    @torch.no_grad()
    def norm(self) -> torch.Tensor:
        return self.metadata.weight.norm()

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x.to(self.metadata.weight.dtype).reshape(-1, self.metadata.weight.shape[1])
        x = self.started(self.metadata(x))
        return x @ self.values.weight.t() @ self.nested.inner.weight


def test_a_read_that_a_gradient_meets_is_found_and_no_other() -> None:
    table = ap.summary(ap.convert(Reader()))
    assert [row.name for row in table.rows if row.converted] == ["metadata", "started"]
    assert "Reader.forward" in table["values"].reason
    assert "Reader.forward" in table["nested.inner"].reason


class CallsItsParent(nn.MultiheadAttention):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # on purpose
        return super().forward(x, x, x)[0]


class ReplacesItsParent(nn.MultiheadAttention):
    def forward(self, x: torch.Tensor) -> torch.Tensor:  # type: ignore[override]  # on purpose
        return self.out_proj(x)


def test_an_inherited_read_counts_unless_it_is_overridden() -> None:
    kinds = (CallsItsParent, ReplacesItsParent)
    calls, replaces = (ap.summary(kind(4, 2))["out_proj"].reason for kind in kinds)
    assert "read by MultiheadAttention.forward" in calls
    assert "a subclass of Linear" in replaces


def test_the_fast_path_of_torchs_encoder_is_no_obstacle() -> None:
    layer = nn.TransformerEncoderLayer(4, 2, 8, batch_first=True, dropout=0.0)
    model = ap.convert(nn.TransformerEncoder(layer, 2))
    assert ap.verify(model, torch.randn(2, 3, 4)).keys() == {
        f"layers.{number}.linear{place}" for number in (0, 1) for place in (1, 2)
    }
    model.eval()
    assert len(ap.verify(model, torch.randn(2, 3, 4))) == 4
    with torch.no_grad():
        model(torch.randn(2, 3, 4))  # the fast path itself


def test_an_unknown_name_is_a_key_error(small_network: nn.Sequential) -> None:
    with pytest.raises(KeyError):
        ap.summary(small_network)["head"]
