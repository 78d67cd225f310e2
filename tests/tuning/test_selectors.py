"""The selector grammar, against explicit indices."""

import pytest
import torch

from ftkit.errors import ConfigError
from ftkit.models import load_model
from ftkit.tuning import ParameterGroups, parameter_table, select, trainable_selection


@pytest.fixture(scope="module")
def groups() -> ParameterGroups:
    return ParameterGroups(load_model("new:gpt2,n_layer=4"))


QKV = "transformer.h.{}.attn.c_attn.{}"


@pytest.mark.parametrize(
    ("selector", "layers"),
    [
        ("attention.k@2..", [2, 3]),
        ("attention.k@..1", [0, 1]),
        ("attention.k@-1", [3]),
        ("attention.k@0+2", [0, 2]),
        ("attention.k@1..2", [1, 2]),
        ("attention.k@-2..", [2, 3]),
        ("attention.k", [0, 1, 2, 3]),
    ],
)
def test_layers(groups, selector, layers):
    chosen = select(groups, selector)
    assert chosen.masks.keys() == {QKV.format(layer, kind) for layer in layers for kind in ("weight", "bias")}
    for mask in chosen.masks.values():
        assert mask.nonzero()[:, 0].tolist() == list(range(64, 128))
    assert groups.dims[QKV.format(0, "weight")] == 1
    assert groups.dims[QKV.format(0, "bias")] == 0


def test_rows(groups):
    chosen = select(groups, "embedding[rows=13+50..52]")
    assert chosen.masks["transformer.wte.weight"].nonzero()[:, 0].tolist() == [13, 50, 51, 52]
    assert select(groups, "position[rows=5]").masks["transformer.wpe.weight"].sum() == 1


def test_names_joins_and_exclusions(groups):
    assert select(groups, "name:ln_1\\.weight").masks.keys() == {f"transformer.h.{i}.ln_1.weight" for i in range(4)}
    assert select(groups, ["name:h\\.[1,2]\\.ln_1\\.weight"]).masks.keys() == {
        "transformer.h.1.ln_1.weight",
        "transformer.h.2.ln_1.weight",
    }
    everything = {name for name, mask in groups.all.masks.items()}
    assert select(groups, "^norm").masks.keys() == {name for name in everything if ".ln_" not in name}
    assert select(groups, "attention, mlp, ^attention.q@1.. ,^mlp.out").masks.keys() == {
        name for name in everything if ".attn." in name or ".c_fc." in name
    }
    assert select(groups, "head").masks.keys() == {"transformer.wte.weight"}
    assert select(groups, "name:lm_head").masks.keys() == {"transformer.wte.weight"}


def test_attention_does_not_include_norms():
    bert = ParameterGroups(load_model("new:bert", task="sequence-classification"))
    assert all("LayerNorm" not in name for name in select(bert, "attention").masks)
    assert any("attention.output.LayerNorm" in name for name in select(bert, "norm").masks)


@pytest.mark.parametrize(
    ("selector", "message"),
    [
        ("atention", "matches nothing; did you mean 'attention'.*model has embedding, position"),
        ("attention@7", "asks for blocks 7; there are blocks 0 to 3"),
        ("attention@3..1", "asks for blocks 3..1"),
        ("embedding@1", "lies outside the blocks"),
        ("norm[rows=1]", "asks for rows, which only embedding and position have"),
        ("embedding[rows=256]", "there are rows 0 to 255"),
        ("name:nothing", "matches no parameter; names look like transformer"),
        ("name:(", "is no regular expression"),
        ("attention[1]", "cannot be read; write GROUP"),
        ("norm,^norm", "leave nothing"),
        ("attention,mpl", "'mpl' matches nothing; did you mean 'mlp'"),
        (",", "is empty"),
        ("classifier", "'classifier' matches nothing"),
        ("attention@x..", "cannot be read"),
        ("attention@1-2", "is no range"),
    ],
)
def test_what_matches_nothing_is_an_error_that_lists_what_exists(groups, selector, message):
    with pytest.raises(ConfigError, match=message):
        select(groups, selector)


def test_nothing_left_to_train_is_an_error(groups):
    with pytest.raises(ConfigError, match=r"nothing is left to train with train: norm, freeze: \^mlp"):
        trainable_selection(groups, "norm", "^mlp")
    with pytest.raises(ConfigError, match="nothing is left to train with freeze: all"):
        trainable_selection(groups, None, "all")


def test_table_counts_a_slice_and_a_tied_tensor_once(groups):
    table = parameter_table(groups, trainable_selection(groups, "attention.q@2..", None))
    rows = {row.group: row for row in table.rows}
    assert table.total == sum(p.numel() for p in load_model("new:gpt2,n_layer=4").parameters())
    assert table.trainable == rows["attention.q"].trainable == 2 * (64 * 64 + 64)
    assert rows["embedding"].shared_with == ("head",)
    assert sum(row.share for row in table.rows) == pytest.approx(1)
    assert sum(row.weights for row in table.rows) == sum(
        p.numel() for p in load_model("new:gpt2,n_layer=4").parameters() if p.ndim > 1
    )
    assert table.as_dict()["groups"]["norm"]["layers"] == (0, 1, 2, 3)


def test_selections_are_sets(groups):
    q, attention = select(groups, "attention.q"), select(groups, "attention")
    assert (attention & q).masks.keys() == q.masks.keys()
    assert all(torch.equal((attention & q).masks[name], mask) for name, mask in q.masks.items())
    assert not (q - attention)
    assert (q | attention).masks.keys() == attention.masks.keys()


@pytest.mark.parametrize("selector", ["name:", "attention@" + "9" * 5000, "name:" + "(" * 3000])
def test_what_no_one_means_is_one_message(groups, selector):
    with pytest.raises(ConfigError, match=r"matches no parameter|cannot be read|is no range|no regular expression"):
        select(groups, selector)
