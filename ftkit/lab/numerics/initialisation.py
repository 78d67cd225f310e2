"""How new weights are drawn, and what the first forward pass makes of them (lessons 06/012 and 06/013).

With a tied head the token embedding is the head's weight too, and two module types ask for two different draws of it.
Drawn module by module, whoever comes last wins, and that is the head.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel

from ftkit.lab.numerics.outcomes import Line, Panel, Table
from ftkit.models import load_model
from ftkit.training.probes import Activations

__all__ = ["POLICIES", "Initialisation", "Policy", "expected_std", "initialise", "measure_initialisation"]

Policy = Mapping[str, str]
"""How ``linear`` and ``embedding`` weights are drawn: ``normal:STD``, ``xavier`` or ``kaiming``."""

POLICIES: dict[str, Policy] = {
    "normal 0.02": {"linear": "normal:0.02", "embedding": "normal:0.02"},
    "xavier": {"linear": "xavier", "embedding": "xavier"},
    "kaiming": {"linear": "kaiming", "embedding": "kaiming"},
    "normal 3": {"linear": "normal:3", "embedding": "normal:3"},
    "lesson 06/013": {"linear": "normal:0.02", "embedding": "xavier"},
}
_PARTS = ("linear", "positions", "tokens")


def expected_std(draw: str, shape: torch.Size) -> float:
    """Standard deviation of a weight of shape (out, in) by the formula of its draw.

    Source: Glorot and Bengio 2010, equation 12: 2 / (in + out); He et al. 2015, equation 10: 2 / in.
    """
    if draw.startswith("normal:"):
        return float(draw.partition(":")[2])
    return math.sqrt(2 / (sum(shape) if draw == "xavier" else shape[1]))


@torch.no_grad()
def initialise(model: nn.Module, policy: Policy, seed: int = 42, shared_once: bool = True) -> None:
    """Draw all linear and embedding weights by their module's type; biases become 0.

    Args:
        model: Changed in place; what is tied stays tied.
        policy: How each type is drawn.
        seed: Which draw.
        shared_once: Draw a tensor that several modules share for the first of them only, so that a tied head leaves
            the embedding as it is; otherwise every module draws, and the last one wins.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn: set[int] = set()
    for module in model.modules():
        if not isinstance(module, nn.Linear | nn.Embedding):
            continue
        weight: Tensor = module.weight
        if not (shared_once and id(weight) in drawn):
            kind = "embedding" if isinstance(module, nn.Embedding) else "linear"
            weight.normal_(0.0, expected_std(policy[kind], weight.shape), generator=generator)
        drawn.add(id(weight))
        if isinstance(module, nn.Linear) and module.bias is not None:
            module.bias.zero_()


@dataclass(frozen=True)
class Drawn:
    """One model and its first forward pass."""

    stds: dict[str, float]
    """Of linear weights, positions and tokens."""
    expected: dict[str, float]
    """By the formulas; empty for the model as it is built."""
    layers: tuple[float, ...]
    """Standard deviation of what leaves each block."""
    loss: float
    """In nats per token, on random tokens."""
    expected_loss: float
    """ln V + d s^2 / 2 for tokens of spread s and width d: the final norm gives logits the variance d s^2, and a
    softmax over so many normal logits costs half of it. Good while that is small."""
    tied: bool
    """Whether the head is the token embedding, the same object."""


@dataclass(frozen=True)
class Initialisation:
    """Policies, and the orders of drawing and tying."""

    question: ClassVar[str] = "What does the initialisation do to the first forward pass, and does it survive tying?"
    lesson: ClassVar[str] = "06/012, 06/013"

    vocab_size: int
    drawn: dict[str, Drawn]
    orders: dict[str, tuple[float, bool]]
    """Standard deviation of the tokens, and whether they are the head, by the order of drawing and tying."""
    wanted: float
    """Standard deviation that the lesson's policy wants for the tokens."""

    @property
    def agrees(self) -> bool:
        """Every spread within 3 % of its formula, everything tied, and normal 0.02 starts where its formula says."""
        spread = [abs(d.stds[part] / d.expected[part] - 1) for d in self.drawn.values() for part in d.expected]
        tied = all(d.tied for d in self.drawn.values()) and all(tied for _, tied in self.orders.values())
        usual = self.drawn["normal 0.02"]
        return max(spread) < 0.03 and tied and abs(usual.loss - usual.expected_loss) < 0.1

    def finding(self) -> str:
        """Losses, and what is left of the wish for the tokens."""
        losses = ", ".join(f"{name} {drawn.loss:.4g}" for name, drawn in self.drawn.items())
        orders = ", ".join(f"{std:.4f} {order}" for order, (std, _) in self.orders.items())
        return (
            f"Loss before training against ln V = {math.log(self.vocab_size):.3f}: {losses} "
            f"(normal 0.02 by ln V + d std^2 / 2: {self.drawn['normal 0.02'].expected_loss:.4g}); where tokens should "
            f"have the std {self.wanted:.4f} and the head 0.02, the tied tensor gets {orders}."
        )

    def table(self) -> Table:
        """Policies, then orders."""
        columns = ("weights", "linear", "positions", "tokens", "tokens by the formula", "after the first block",
                   "after the last block", "loss", "loss by the formula")  # fmt: skip
        rows: list[tuple[float | str | None, ...]] = [
            (
                name,
                *(d.stds[part] for part in _PARTS),
                d.expected.get("tokens"),
                d.layers[0],
                d.layers[-1],
                d.loss,
                d.expected_loss,
            )
            for name, d in self.drawn.items()
        ]
        for order, (std, _) in self.orders.items():
            rows.append((f"lesson 06/013, {order}", None, None, std, self.wanted, None, None, None, None))
        return Table(columns, rows)

    def panels(self) -> list[Panel]:
        """Spread of activations by block, spread of weights by part."""
        blocks = [Line(name, list(range(len(d.layers))), d.layers) for name, d in self.drawn.items()]
        parts = [
            line
            for name, d in self.drawn.items()
            for line in (
                Line(name, _PARTS, [d.stds[part] for part in _PARTS], "points"),
                Line(name, _PARTS, [d.expected.get(part, math.nan) for part in _PARTS], "dashed"),
            )
        ]
        return [
            Panel("", "Forward pass of new weights", "What leaves each block, on random tokens.",
                  "standard deviation of the hidden states", "block", blocks, "y"),
            Panel("weights", "Weights as drawn", "Points: measured. Dashed: by the formulas for the policy.",
                  "standard deviation of the weights", "part of the model", parts, "y"),
        ]  # fmt: skip


def measure_initialisation(spec: str, seed: int = 42, rows: int = 4, tokens: int = 64) -> Initialisation:
    """Draw ftkit's own GPT-2 by each policy and run it once; then the lesson's policy in three orders.

    Args:
        spec: ``new:ftkit_gpt2,...``, as ``load_model`` takes it; its head is tied.
        seed: Draws weights and tokens.
        rows: Rows of the batch.
        tokens: Tokens of a row.
    """
    model = load_model(spec, seed=seed)
    config: Any = model.config
    generator = torch.Generator().manual_seed(seed)
    width = min(tokens, config.max_position_embeddings)
    input_ids_BT = torch.randint(config.vocab_size, (rows, width), generator=generator)
    drawn = {"as built": _first_pass(model, None, input_ids_BT)}
    for name, policy in POLICIES.items():
        initialise(model, policy, seed)
        drawn[name] = _first_pass(model, policy, input_ids_BT)

    chosen = POLICIES["lesson 06/013"]
    tokens_weight: Any = model.get_input_embeddings().weight
    orders: dict[str, tuple[float, bool]] = {}
    for order, make in _orders(spec, chosen, seed).items():
        made: Any = make()
        weight = made.get_input_embeddings().weight
        orders[order] = (float(weight.detach().double().std()), made.get_output_embeddings().weight is weight)
    return Initialisation(config.vocab_size, drawn, orders, expected_std(chosen["embedding"], tokens_weight.shape))


def _orders(spec: str, policy: Policy, seed: int) -> dict[str, Callable[[], PreTrainedModel]]:
    """Ways to a tied model whose weights are drawn by a policy."""

    def before() -> PreTrainedModel:
        model = load_model(f"{spec},tie_word_embeddings=false", seed=seed)
        initialise(model, policy, seed)
        model.config.tie_word_embeddings = True
        model.tie_weights()
        return model

    def after(shared_once: bool) -> PreTrainedModel:
        model = load_model(spec, seed=seed)
        initialise(model, policy, seed, shared_once)
        return model

    return {
        "drawn before tying": before,
        "drawn after it, module by module": lambda: after(shared_once=False),
        "drawn after it, a shared tensor once": lambda: after(shared_once=True),
    }


def _first_pass(model: PreTrainedModel, policy: Policy | None, input_ids_BT: Tensor) -> Drawn:
    """Spreads of weights and hidden states, and the loss on the tokens themselves."""
    embeddings = [module.weight for module in model.modules() if isinstance(module, nn.Embedding)]
    known = {id(weight) for weight in embeddings}
    linear = [m.weight for m in model.modules() if isinstance(m, nn.Linear) and id(m.weight) not in known]
    parts = {"linear": linear, "positions": embeddings[1:2], "tokens": embeddings[:1]}
    expected: dict[str, float] = {}
    if policy is not None:
        kinds = {"linear": "linear", "positions": "embedding", "tokens": "embedding"}
        expected = {
            part: _pooled([(expected_std(policy[kinds[part]], w.shape), w.numel()) for w in weights])
            for part, weights in parts.items()
        }
    stds = {
        part: _pooled([(float(w.detach().double().std()), w.numel()) for w in weights])
        for part, weights in parts.items()
    }
    layers = [row["std"] for row in Activations(model, input_ids_BT, every=1).measure(0)]
    with torch.inference_mode():
        loss = float(model(input_ids=input_ids_BT, labels=input_ids_BT).loss)
    head: Any = model.get_output_embeddings()
    rows, width = embeddings[0].shape
    expected_loss = math.log(rows) + width * stds["tokens"] ** 2 / 2
    return Drawn(stds, expected, tuple(layers), loss, expected_loss, head.weight is embeddings[0])


def _pooled(stds: list[tuple[float, int]]) -> float:
    """Standard deviation of several tensors of mean 0 together."""
    return math.sqrt(sum(std**2 * count for std, count in stds) / sum(count for _, count in stds))
