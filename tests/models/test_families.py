"""The contract of a family: what its declaration says is what the real class has and computes."""

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoModelForSequenceClassification, PreTrainedModel

from ftkit.models import FAMILIES, Fused, load_model
from ftkit.models.families import new_config
from ftkit.models.tasks import TASKS, reads_both_ways
from ftkit.tuning import ParameterGroups, select

HEADS = {"lm": (AutoModelForCausalLM, AutoModelForMaskedLM), "classifier": (AutoModelForSequenceClassification,)}


def tiny(family: str, head: str = "lm") -> PreTrainedModel:
    """The tiny model of a family with the head that it has."""
    config = new_config(f"new:{family}")
    encoder = getattr(config, "is_decoder", None) is False or family == "distilbert"
    for automatic in HEADS[head] if not (head == "lm" and encoder) else (AutoModelForMaskedLM,):
        if type(config) in automatic._model_mapping:
            torch.manual_seed(0)
            return automatic.from_config(config).eval()
    pytest.skip(f"transformers has no {head} class for {family}")


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("family", FAMILIES)
def test_groups_partition_every_parameter_element(family, head):
    model = tiny(family, head)
    groups = ParameterGroups(model)
    counts: dict[str, torch.Tensor] = {}
    for piece in groups.pieces:
        counts[piece.name] = counts.get(piece.name, 0) + piece.mask.long()
    assert counts.keys() == dict(model.named_parameters()).keys()
    assert all((count == 1).all() for count in counts.values())
    assert sum(piece.numel for piece in groups.pieces) == model.num_parameters()
    assert "other" not in groups.names
    assert groups.num_layers == 2
    wanted = {"embedding", "norm", "mlp.in", "mlp.out", "attention.q", "attention.k", "attention.v", "attention.out"}
    assert wanted <= set(groups.names)


@pytest.mark.parametrize("family", FAMILIES)
def test_each_group_holds_the_kind_of_module_that_it_names(family):
    model = tiny(family)
    modules = dict(model.named_modules())
    seen = set()
    for piece in ParameterGroups(model).pieces:
        kind = type(modules[piece.name.rpartition(".")[0]]).__name__
        seen.add(piece.group)
        if piece.group.startswith(("embedding", "position")):
            assert kind == "Embedding", piece.name
        elif piece.group == "norm":
            assert "Norm" in kind, piece.name
        elif piece.group.startswith(("attention", "mlp")):
            assert kind in ("Linear", "Conv1D"), piece.name
            assert piece.layer is not None
    assert {"embedding", "norm", "attention.q", "mlp.in"} <= seen


@pytest.mark.parametrize("family", FAMILIES)
def test_a_tied_tensor_is_named_once_with_both_names(family):
    model = tiny(family)
    tied = model.get_output_embeddings().weight is model.get_input_embeddings().weight
    embedding = next(piece for piece in ParameterGroups(model).pieces if piece.group == "embedding")
    assert (len(embedding.also) == 1) == tied
    assert (embedding.also_groups == ("head",)) == tied
    if tied:
        groups = ParameterGroups(model)
        assert select(groups, "head").masks.keys() >= select(groups, "embedding").masks.keys() - {
            "bert.embeddings.token_type_embeddings.weight"
        }


def outputs_of_attention(model: PreTrainedModel, part: str) -> dict[str, torch.Tensor]:
    """What a model's logits depend on when the weights of one part of its attention are scaled."""
    groups = ParameterGroups(model)
    chosen = select(groups, part)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name in chosen.masks:
                shape = [1] * parameter.ndim
                shape[groups.dims[name]] = -1
                parameter.masked_fill_(chosen.masks[name].reshape(shape), 0.0)
    ids = torch.arange(12).reshape(1, 12)
    return model(input_ids=ids, output_attentions=True).attentions[0]


@pytest.mark.parametrize("family", [name for name, family in FAMILIES.items() if family.parts])
def test_query_without_weights_attends_evenly_and_so_does_key_but_not_value(family):
    """What the slices mean is asked of the real forward pass: zero queries (or keys) give every visible position the
    same weight, zero values leave the weights alone."""
    config = new_config(f"new:{family}")
    causal = family not in ("bert", "distilbert")
    even = torch.ones(12, 12).tril() if causal else torch.ones(12, 12)
    even = even / even.sum(1, keepdim=True)

    def attention(part: str | None) -> torch.Tensor:
        torch.manual_seed(1)
        automatic = AutoModelForCausalLM if causal else AutoModelForMaskedLM
        model = automatic.from_config(config, attn_implementation="eager").eval()
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.add_(torch.randn_like(parameter) * 0.2)
        if part is None:
            return model(input_ids=torch.arange(12).reshape(1, 12), output_attentions=True).attentions[0]
        return outputs_of_attention(model, part)

    untouched = attention(None)
    assert (untouched - even).abs().max() > 0.01
    for part in ("attention.q", "attention.k"):
        torch.testing.assert_close(attention(part), even.expand_as(untouched), atol=1e-5, rtol=0)
    torch.testing.assert_close(attention("attention.v"), untouched)


def test_fused_matrices_are_declared_where_they_are():
    fused = {
        name: part for name, family in FAMILIES.items() for part in family.parts.values() if isinstance(part, Fused)
    }
    assert fused["gpt2"] == Fused(("attention.q", "attention.k", "attention.v"), output_dim=1)
    assert fused["codegen"] == Fused(("attention.q", "attention.v", "attention.k"), repeats=4)
    assert len(fused) == 2


def test_an_undeclared_family_is_chosen_by_name_only():
    from transformers import OPTConfig, OPTForCausalLM

    from ftkit.errors import ConfigError

    model = OPTForCausalLM(
        OPTConfig(
            vocab_size=64,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            ffn_dim=32,
            word_embed_proj_dim=16,
        )
    )
    groups = ParameterGroups(model)
    assert select(groups, "name:fc1").masks.keys() == {
        "model.decoder.layers.0.fc1.weight",
        "model.decoder.layers.0.fc1.bias",
    }
    assert len(select(groups, "all").masks) == len(list(model.parameters()))
    with pytest.raises(ConfigError, match="family 'opt' is not declared, so only all and name:REGEX"):
        select(groups, "attention")


def has_head(family: str, task: str) -> bool:
    """Whether transformers has a class for a family and a task, in the direction in which the family reads."""
    config = new_config(f"new:{family}")
    return type(config) in TASKS[task]._model_mapping and not (task == "causal-lm" and reads_both_ways(config))


HEADS_OF_FAMILIES = [(family, task) for family in FAMILIES for task in TASKS if has_head(family, task)]


def test_every_family_has_a_language_model_and_nearly_every_one_a_classifier():
    assert {family for family, task in HEADS_OF_FAMILIES if task.endswith("-lm")} == set(FAMILIES)
    assert [task for family, task in HEADS_OF_FAMILIES if family == "bert"] == ["masked-lm", "sequence-classification"]
    without = set(FAMILIES) - {family for family, task in HEADS_OF_FAMILIES if task == "sequence-classification"}
    assert without == {"codegen", "ftkit_ladder"}


@pytest.mark.parametrize(("family", "task"), HEADS_OF_FAMILIES)
def test_what_transformers_saves_is_loaded_with_the_same_weights(family, task, tmp_path):
    torch.manual_seed(0)
    model = TASKS[task].from_config(new_config(f"new:{family}")).eval()
    model.save_pretrained(tmp_path)
    again = load_model(str(tmp_path), task=task, seed=5)
    assert type(again) is type(model)
    stored, loaded = model.state_dict(), again.state_dict()
    assert stored.keys() == loaded.keys()
    assert [name for name, tensor in stored.items() if not torch.equal(tensor, loaded[name])] == []
    ids = torch.arange(8).reshape(1, 8)
    with torch.no_grad():
        torch.testing.assert_close(again(input_ids=ids).logits, model(input_ids=ids).logits)
