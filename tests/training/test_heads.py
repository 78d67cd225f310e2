"""The head fused with its loss, against torch's cross-entropy of all logits and the models' own forward passes."""

import pytest
import torch
import torch.nn.functional as F
from conftest import FAMILIES, tiny
from torch import Tensor

from ftkit.config import AdapterSettings
from ftkit.models import load_model, log_probability_model
from ftkit.training import NEXT_TOKEN, LossModule, heads, loss_sums
from ftkit.training.heads import chunked_cross_entropy, has_plain_head, hidden_states_of
from ftkit.training.memory import peak_memory
from ftkit.training.objectives import IGNORED, Objective
from ftkit.tuning import attach_adapter

ROWS, WIDTH, VOCAB = 61, 24, 211
WITH_ALL_LOGITS = Objective("next_token", NEXT_TOKEN.loss_sum, NEXT_TOKEN.num_targets)


def head(dtype: torch.dtype = torch.float32, seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Hidden states, weight, bias and targets, some of which are not asked for."""
    generator = torch.Generator().manual_seed(seed)
    hidden, weight, bias = (
        torch.randn(shape, generator=generator, dtype=dtype).mul(0.5).requires_grad_()
        for shape in ((ROWS, WIDTH), (VOCAB, WIDTH), (VOCAB,))
    )
    targets = torch.randint(0, VOCAB, (ROWS,), generator=generator)
    targets[::5] = IGNORED
    return hidden, weight, bias, targets


def full(hidden: Tensor, weight: Tensor, targets: Tensor, bias: Tensor | None = None) -> Tensor:
    logits = F.linear(hidden, weight, bias)
    return F.cross_entropy(logits.float() if logits.dtype.itemsize < 4 else logits, targets, reduction="sum")


def relative(found: Tensor, expected: Tensor) -> float:
    found, expected = found.detach().double(), expected.detach().double()
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("chunk_rows", [1, 7, 60, 61, 1000, None])
@pytest.mark.parametrize("with_bias", [False, True])
def test_chunks_give_the_loss_and_gradients_of_full_logits(chunk_rows: int | None, with_bias: bool) -> None:
    hidden, weight, bias, targets = head()
    inputs = (hidden, weight, *([bias] if with_bias else []))
    expected = full(hidden, weight, targets, bias if with_bias else None)
    found = chunked_cross_entropy(hidden, weight, targets, bias_V=bias if with_bias else None, chunk_rows=chunk_rows)
    assert found.dtype == torch.float32
    assert found.ndim == 0
    assert relative(found, expected) <= 1e-6
    factor = torch.tensor(0.37)
    grads = torch.autograd.grad(found * factor, inputs)
    for grad, reference in zip(grads, torch.autograd.grad(expected * factor, inputs), strict=True):
        assert relative(grad, reference) <= 1e-6


def test_float64_gradients_are_those_of_finite_differences() -> None:
    hidden, weight, bias, targets = head(torch.float64)
    inputs, step = (hidden, weight, bias), 1e-5
    directions = [torch.randn_like(tensor) for tensor in inputs]
    grads = torch.autograd.grad(chunked_cross_entropy(hidden, weight, targets, bias_V=bias, chunk_rows=9), inputs)
    for place, (direction, grad) in enumerate(zip(directions, grads, strict=True)):
        sides = []
        for sign in (1, -1):
            moved = [tensor.detach().clone() for tensor in inputs]
            moved[place] += sign * step * direction
            sides.append(chunked_cross_entropy(*moved[:2], targets, bias_V=moved[2], chunk_rows=9))
        slope = (sides[0] - sides[1]) / (2 * step)
        torch.testing.assert_close((grad * direction).sum(), slope, rtol=1e-7, atol=1e-7)


def test_autocast_rounds_no_worse_than_full_logits_do() -> None:
    hidden, weight, _, targets = head()
    exact = torch.autograd.grad(full(hidden, weight, targets), (hidden, weight))
    with torch.autocast("cpu", torch.bfloat16):
        rounded = torch.autograd.grad(full(hidden, weight, targets), (hidden, weight))
        found = chunked_cross_entropy(hidden, weight, targets, chunk_rows=16)
    for grad, reference, truth in zip(torch.autograd.grad(found, (hidden, weight)), rounded, exact, strict=True):
        assert grad.dtype == torch.float32
        assert 0 < relative(grad, truth) <= 1.5 * relative(reference, truth)


@pytest.mark.parametrize("frozen", ["weight", "hidden", "both"])
def test_what_is_frozen_gets_no_gradient_and_the_rest_the_same(frozen: str) -> None:
    hidden, weight, _, targets = head()
    full(hidden, weight, targets).backward()
    expected = {"hidden": hidden.grad, "weight": weight.grad}
    hidden.grad = weight.grad = None
    hidden.requires_grad_(frozen == "weight")
    weight.requires_grad_(frozen == "hidden")
    loss = chunked_cross_entropy(hidden, weight, targets, chunk_rows=10)
    assert loss.requires_grad == (frozen != "both")
    if frozen == "both":
        return
    loss.backward()
    for name, tensor in (("hidden", hidden), ("weight", weight)):
        if name == frozen:
            assert tensor.grad is None
        else:
            assert tensor.grad is not None
            assert relative(tensor.grad, expected[name]) <= 1e-6


def test_a_second_backward_pass_is_an_error_and_not_a_wrong_gradient() -> None:
    hidden, weight, _, targets = head()
    loss = chunked_cross_entropy(hidden, weight, targets, chunk_rows=10)
    loss.backward(retain_graph=True)
    with pytest.raises(RuntimeError, match="second backward pass"):
        loss.backward()


@pytest.mark.parametrize("every", [2, 3, 19])
def test_few_targets_give_the_same_loss_and_gradients(every: int) -> None:
    hidden, weight, _, targets = head()
    targets = torch.where(torch.arange(ROWS) % every == 0, targets, IGNORED)
    expected = full(hidden, weight, targets)
    found = chunked_cross_entropy(hidden, weight, targets, chunk_rows=4)
    assert relative(found, expected) <= 1e-6
    grads = torch.autograd.grad(found, (hidden, weight))
    for grad, reference in zip(grads, torch.autograd.grad(expected, (hidden, weight)), strict=True):
        assert relative(grad, reference) <= 1e-6


def test_targets_that_are_all_ignored_cost_nothing() -> None:
    hidden, weight, _, targets = head()
    loss = chunked_cross_entropy(hidden, weight, torch.full_like(targets, IGNORED), chunk_rows=10)
    loss.backward()
    assert float(loss.detach()) == 0
    assert weight.grad is not None
    assert not weight.grad.any()


def test_chunks_need_less_than_half_the_memory_of_full_logits() -> None:
    needed = {}
    for name in ("full", "chunked"):
        hidden, weight = torch.randn(1024, 16, requires_grad=True), torch.randn(20_000, 16, requires_grad=True)
        targets = torch.randint(0, 20_000, (1024,))
        with peak_memory([hidden, weight]) as found:
            (full if name == "full" else chunked_cross_entropy)(hidden, weight, targets).backward()
        needed[name] = found.num_bytes - hidden.nbytes - weight.nbytes
    assert needed["chunked"] < 0.5 * needed["full"]


@pytest.fixture
def few_rows_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Seven rows of the tiny models' logits in a chunk, which are otherwise too small to be divided."""
    monkeypatch.setattr(heads, "_SMALL_BYTES", 0)
    monkeypatch.setitem(heads._CHUNK_BYTES, "cpu", 7 * 4 * 257)


def batch(rows: int = 3, tokens: int = 20) -> dict[str, Tensor]:
    """Rows padded on the right, with labels where there is text."""
    ids = torch.randint(0, 257, (rows, tokens), generator=torch.Generator().manual_seed(1))
    mask = (torch.arange(tokens) < torch.tensor([20, 13, 8])[:rows, None]).long()
    return {"input_ids": ids, "attention_mask": mask, "labels": ids.masked_fill(mask == 0, IGNORED)}


def losses_and_gradients(model: torch.nn.Module, objective: Objective) -> tuple[Tensor, dict[str, Tensor]]:
    model.zero_grad()
    torch.manual_seed(3)
    (loss,) = loss_sums(model, batch(), objective)
    loss.backward()
    return loss.detach(), {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("family", [*FAMILIES, "llama", "qwen3", "ftkit_ladder,rung=1", "ftkit_ladder,rung=4"])
@pytest.mark.parametrize("tied", [True, False])
def test_every_family_trains_alike_with_and_without_all_logits(
    family: str, tied: bool, few_rows_at_a_time: None
) -> None:
    """Dropout is on: the same numbers are drawn."""
    model = load_model(f"new:{family},tie_word_embeddings={str(tied).lower()}", vocab_size=257, max_positions=64)
    model.train()
    assert has_plain_head(model)
    expected, expected_grads = losses_and_gradients(model, WITH_ALL_LOGITS)
    found, grads = losses_and_gradients(model, NEXT_TOKEN)
    assert relative(found, expected) <= 1e-6
    assert grads.keys() == expected_grads.keys()
    whole = torch.cat([grad.flatten() for grad in expected_grads.values()]).norm()
    for name, grad in grads.items():
        assert float((grad - expected_grads[name]).norm()) <= 1e-6 * float(whole), name


def test_the_own_models_logit_scale_is_in_the_hidden_states(few_rows_at_a_time: None) -> None:
    model = load_model("new:ftkit_gpt2,logit_scale=0.125", vocab_size=257, max_positions=64).eval()
    inputs = {"input_ids": batch()["input_ids"]}
    expected = model(**inputs).logits
    torch.testing.assert_close(model.lm_head(hidden_states_of(model, inputs)), expected)
    assert relative(losses_and_gradients(model, NEXT_TOKEN)[0], losses_and_gradients(model, WITH_ALL_LOGITS)[0]) <= 1e-6


def test_codegens_head_has_a_bias_that_is_trained(few_rows_at_a_time: None) -> None:
    model = tiny("codegen")
    with torch.no_grad():
        model.lm_head.bias.normal_()
    expected, expected_grads = losses_and_gradients(model, WITH_ALL_LOGITS)
    found, grads = losses_and_gradients(model, NEXT_TOKEN)
    assert relative(found, expected) <= 1e-6
    assert relative(grads["lm_head.bias"], expected_grads["lm_head.bias"]) <= 1e-6


@pytest.mark.parametrize(("method", "plain"), [("lora", True), ("bias", True), ("prompt", False), ("prefix", False)])
def test_adapters_inside_keep_the_head_plain_and_virtual_tokens_do_not(
    method: str, plain: bool, few_rows_at_a_time: None
) -> None:
    model = tiny("gpt2")
    adapted = attach_adapter(model, AdapterSettings(model="new:gpt2", tokenizer="byte", peft=method, virtual_tokens=4))
    assert has_plain_head(adapted) == plain
    expected, expected_grads = losses_and_gradients(adapted, WITH_ALL_LOGITS)
    found, grads = losses_and_gradients(adapted, NEXT_TOKEN)
    assert relative(found, expected) <= 1e-6
    assert grads.keys() == expected_grads.keys()


def test_an_adapter_on_the_head_a_hook_or_another_class_is_not_plain() -> None:
    model = tiny("gpt2")
    assert has_plain_head(model)
    assert not has_plain_head(log_probability_model(model))
    assert has_plain_head(model)
    model.lm_head.register_forward_hook(lambda module, args, output: output * 2)
    assert not has_plain_head(model)
    settings = AdapterSettings(model="new:gpt2", tokenizer="byte", peft="tokens", trainable_tokens=[3, 4])
    assert not has_plain_head(attach_adapter(tiny("gpt2"), settings))
    assert not has_plain_head(load_model("new:bert", task="masked-lm", vocab_size=257, max_positions=64))

    class Doubled(type(model)):  # type: ignore[misc]
        pass

    assert not has_plain_head(Doubled(model.config))


def test_what_the_engine_trains_asks_for_no_logits(few_rows_at_a_time: None) -> None:
    model = tiny("gpt2").train()
    expected = losses_and_gradients(model, WITH_ALL_LOGITS)[0]
    torch.manual_seed(3)

    def refuse(*args: object, **kwargs: object) -> None:
        raise AssertionError("all logits were asked for")

    model.forward = refuse  # type: ignore[method-assign]
    assert relative(LossModule(model, NEXT_TOKEN)(batch())[0].detach(), expected) <= 1e-6
    with pytest.raises(AssertionError, match="all logits"):
        LossModule(model, WITH_ALL_LOGITS)(batch())
