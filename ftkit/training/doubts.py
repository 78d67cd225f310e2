"""What makes a training worthless, as far as model, tokenizer, text and settings tell before its first update."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from ftkit.data import load_tokenizer
from ftkit.errors import FtkitError
from ftkit.models import is_adapter
from ftkit.training.datasets import ExampleRows, MaskedWindows
from ftkit.training.engine import Engine
from ftkit.tuning import schedule_warning
from ftkit.tuning.shards import is_sharded

__all__ = ["TokenCost", "doubt_of_predictions", "token_cost", "training_doubts"]

_COUNTED_ROWS, _ROWS_AT_ONCE = 4096, 256
"""Rows whose tokens are counted where a dataset has no text as a whole, and how many are made at once."""
_LIKE_MEAN = 0.05
"""Distance of a row from the mean row, over the median distance, below which the row was never trained: new rows are
put within 0.0001 of the mean by transformers. Of all rows of stories260k, base:tales and SmolLM2-135M the nearest are
at 0.53, 0.22 and 0.73."""
_LIKE_RANDOM, _MUCH_LARGER = 0.25, 2.0
"""A row is taken for random where its spread is that of ``initializer_range`` within 25 % (rows of 64 numbers differ by
9 %) and the median row's is at least twice that (7 to 17 times in the three models)."""
_FREQUENT = 0.001
"""Share of the text that new tokens take before they matter: the marks of a chat stand more than once in 1,000 tokens,
the end of a text between documents does not."""
_SHOWN = 6
"""Tokens that a message names."""
_FOREIGN_SHARE = 0.01
"""Share of the text's tokens that may be other pieces than the base's own tokenizer has at their ids: 0 where only
special tokens or the chat template were changed, 0.77 to 1 with the tokenizers of other models."""
_ROWS_READ, _TOKENS_READ = 8, 128
"""Rows on which the base is asked whether it knows the tokens, and tokens of each."""
_NEIGHBOURS = 50
"""Ids among which tokens are exchanged. Ids are ordered by frequency in most vocabularies, so a wide exchange would
show that a foreign tokenizer is ordered too."""
_KNOWS = 1.0
"""Nats by which a base predicts its own tokens better than exchanged ones. Measured on 1,024 tokens of two novels:
2.3 to 6.2 with the own tokenizer (base:tales, stories260k, SmolLM2-135M), -6 to 0.9 with foreign ones."""
_SURPRISED = 2.0
"""Nats by which the loss must exceed the model's own entropy: 2.8 to 25 with foreign tokenizers (SmolLM2-135M,
base:tales, stories260k), about 0 in a model that has hardly been trained and predicts nearly evenly."""
_LOST, _SURELY_FELT = 0.5, 1e-6
"""Of the distance between two float32 numbers: what an update must exceed to change anything. Numbers below 8 are at
most 5e-7 apart."""


def training_doubts(engine: Engine) -> list[str]:
    """Say what makes this training worthless, in sentences that name the remedy; an empty list where nothing does.

    Args:
        engine: What will train, before its first update.
    """
    found = [schedule_warning(engine.settings)]
    if is_sharded(engine.module):  # no process has whole rows
        return [text for text in found if text]
    found += [] if found[0] else [_lost_in_rounding(engine)]
    counts = _counts(engine)
    if engine.source.tokenizer is not None and counts.any():
        foreign = _foreign_pieces(engine, counts)
        found += [
            foreign,
            _unused_trained_tokens(engine, counts),
            "" if foreign else _frozen_new_tokens(engine, counts),
        ]
    return [text for text in found if text]


def _counts(engine: Engine) -> np.ndarray:
    """How often each id stands in the text, or in the first rows of a dataset without one."""
    source, size = engine.source, len(_rows_of(engine.model))
    if source.text_ids is not None:
        return np.bincount(np.asarray(source.text_ids), minlength=size)
    counts = np.zeros(size, dtype=np.int64)
    if source.num_classes is None and not isinstance(source, ExampleRows):
        return counts  # tokens that are drawn at random
    for first in range(0, min(source.epoch_size, _COUNTED_ROWS), _ROWS_AT_ONCE):
        rows = source.rows(np.arange(first, min(first + _ROWS_AT_ONCE, source.epoch_size, _COUNTED_ROWS)))
        ids = rows["input_ids"][rows["attention_mask"].bool()].numpy()
        counts += np.bincount(ids, minlength=size)[:size]
    return counts


def _rows_of(model: Any) -> torch.Tensor:
    """The embedding without the wrappers that an adapter puts around it, [V, D]."""
    module = model.get_input_embeddings()
    for name in ("token_adapter", "original_module", "base_layer"):
        module = getattr(module, name, module)
    return module.weight.detach()  # type: ignore[no-any-return]


def _named(engine: Engine, ids: np.ndarray, counts: np.ndarray) -> str:
    """Tokens with how often they stand in the text, the most frequent first."""
    ids = ids[np.argsort(-counts[ids], kind="stable")]
    tokenizer: Any = engine.source.tokenizer
    shown = ", ".join(
        f"{token!r} {counts[token_id]:,} times"
        for token, token_id in zip(tokenizer.convert_ids_to_tokens(ids[:_SHOWN].tolist()), ids, strict=False)
    )
    return shown + (f" and {len(ids) - _SHOWN} more" if len(ids) > _SHOWN else "")


def _frozen_rows(engine: Engine) -> np.ndarray:
    """Which rows of the embedding no update changes, [V]."""
    embedding = engine.model.get_input_embeddings()
    frozen = np.ones(len(_rows_of(engine.model)), dtype=np.bool_)
    own = {id(parameter) for parameter in embedding.parameters()}
    for name, parameter in engine.model.named_parameters(remove_duplicate=False):
        if id(parameter) not in own or name not in engine.freezing.trainable.masks:
            continue
        mask = engine.freezing.trainable.masks[name]
        if engine.freezing.groups.dims[name] != 0 or len(mask) != len(frozen):
            return np.zeros_like(frozen)  # an adapter of the whole embedding, or single rows
        frozen &= ~mask.cpu().numpy()
    frozen[list(_trained_tokens(engine))] = False
    return frozen


def _trained_tokens(engine: Engine) -> set[int]:
    """Ids whose rows an adapter trains."""
    config = engine.model.peft_config["default"] if is_adapter(engine.model) else None
    found: Any = getattr(config, "trainable_token_indices", None) or getattr(config, "token_indices", None) or ()
    return {int(i) for ids in (found.values() if isinstance(found, dict) else [found]) for i in ids}


def _never_trained(engine: Engine, ids: np.ndarray) -> np.ndarray:
    """Those of some ids whose rows look as they do before any training, or like another row that no text ever moved."""
    rows = _rows_of(engine.model).float()
    distance = (rows - rows.mean(dim=0)).norm(dim=1)
    near = _LIKE_MEAN * distance.median()
    spread = rows.std(dim=1)
    initial = float(getattr(engine.model.config.get_text_config(), "initializer_range", 0.0) or 0.0)
    random = (spread / initial - 1).abs() < _LIKE_RANDOM if initial else torch.zeros(len(rows), dtype=torch.bool)
    random &= spread.median() > _MUCH_LARGER * initial
    chosen = torch.from_numpy(ids).to(rows.device)
    alike = torch.tensor([int(((rows - rows[i]).norm(dim=1) < near).sum()) > 1 for i in chosen.tolist()])
    empty = rows.norm(dim=1) < near
    untrained = ((distance < near) | random | empty)[chosen].cpu() | alike
    return np.asarray(ids[untrained.numpy()])


def _frozen_new_tokens(engine: Engine, counts: np.ndarray) -> str:
    """Say which tokens were added to the vocabulary, stand in the text, and will keep the rows they began with."""
    tokenizer: Any = engine.source.tokenizer
    if engine.settings.untrained is not False:
        return ""
    added = np.array(sorted(set(tokenizer.get_added_vocab().values())), dtype=np.int64)
    added = added[added < len(counts)]
    ids = added[(counts[added] > 0) & _frozen_rows(engine)[added]]
    new = _never_trained(engine, ids) if len(ids) else ids
    if counts[new].sum() < _FREQUENT * counts.sum():
        return ""
    listed = ", ".join(map(str, new[:_SHOWN]))
    remedy = (
        "train the whole model (peft: none), or their rows first (peft: tokens, trainable_tokens: "
        f"[{listed}]) and the adapter on the result"
        if is_adapter(engine.model)
        else f"add embedding[rows={'+'.join(map(str, new[:_SHOWN]))}] to what is trained"
    )
    return (
        f"the embeddings of {len(new)} tokens were never trained and are frozen: {_named(engine, new, counts)}. The "
        f"model cannot tell what they mean; {remedy}, or take a text or template without them"
    )


def _unused_trained_tokens(engine: Engine, counts: np.ndarray) -> str:
    """Say which rows an adapter trains of tokens that the text does not have."""
    ids = np.array(sorted(_trained_tokens(engine)), dtype=np.int64)
    idle = ids[counts[ids] == 0] if len(ids) else ids
    if not len(idle):
        return ""
    return (
        f"trainable_tokens: {len(idle)} of {len(ids)} never stand in the text, so their rows get no gradient: "
        f"{_named(engine, idle, counts)}; leave them out, or give text that has them"
    )


def _foreign_pieces(engine: Engine, counts: np.ndarray) -> str:
    """Say that the tokenizer that was asked for gives other ids than the one that the base was saved with."""
    settings, tokenizer = engine.settings, engine.source.tokenizer
    base: Any = engine.model.get_base_model() if is_adapter(engine.model) else engine.model  # type: ignore[operator]
    if settings.tokenizer is None or settings.untrained is not False or not base.name_or_path:
        return ""
    try:
        own: Any = load_tokenizer(
            base.name_or_path, trust_remote_code=settings.trust_remote_code, revision=settings.revision
        )
    except FtkitError:  # the base was saved without a tokenizer
        return ""
    assert tokenizer is not None
    pieces = {token_id: piece for piece, token_id in own.get_vocab().items()}
    read: Any = tokenizer
    other = np.array(
        [i for piece, i in read.get_vocab().items() if i < len(counts) and pieces.get(i, piece) != piece], dtype=int
    )
    share = counts[other].sum() / counts.sum()
    if share <= _FOREIGN_SHARE:
        return ""
    most = other[np.argmax(counts[other])]
    return (
        f"tokenizer {settings.tokenizer} is not this model's: {share:.0%} of the text's tokens are other pieces in the "
        f"tokenizer that it was saved with (id {most} is {read.convert_ids_to_tokens(int(most))!r}, there "
        f"{pieces[int(most)]!r}), so all that it has learned is lost; leave tokenizer out"
    )


def _lost_in_rounding(engine: Engine) -> str:
    """Say that the updates of AdamW, which are about as large as the rate, vanish beside the weights."""
    if engine.settings.optimizer not in ("adam", "adamw") or is_adapter(engine.model):
        return ""
    rates, weights = engine.peak_rates(), dict(engine.model.named_parameters())
    if max(rates.values(), default=1.0) > _SURELY_FELT:
        return ""
    steps = [
        (rate, weight, float(np.spacing(np.float32(weight))))
        for name, rate in rates.items()
        if (weight := float(weights[name].detach().abs().median()))
    ]
    if not steps or any(rate >= _LOST * distance for rate, _, distance in steps):
        return ""
    rate, weight, distance = max(steps)
    return (
        f"the learning rate {rate:g} is lost in rounding: weights of {weight:.2g} are float32 numbers {distance:.1g} "
        "apart, so no update changes them; set learning_rate higher"
    )


@dataclass(frozen=True)
class TokenCost:
    """What a base's tokens cost it, in nats per token."""

    as_is: float
    exchanged: float
    """With the ids of neighbours exchanged at random."""
    by_frequency: float
    """From how often each token comes, and from nothing else."""
    expected: float
    """Entropy of what the base predicts."""

    @property
    def knows_tokens(self) -> bool:
        """Whether the base predicts the tokens of this text better than others in their place."""
        return self.exchanged - self.as_is >= _KNOWS


@torch.no_grad()
def token_cost(engine: Engine) -> TokenCost | None:
    """Ask a base whether the tokens of its text are the ones it has learned.

    Args:
        engine: What will train, before its first update.

    Returns:
        ``None`` where the question makes no sense: random weights, no next tokens of a text, or a sharded model.
    """
    source, settings = engine.source, engine.settings
    of_text = all(part.of_text for _, part in engine.objective.parts) and not isinstance(source, MaskedWindows)
    has_text = source.text_ids is not None or isinstance(source, ExampleRows)
    if settings.untrained is not False or not of_text or not has_text or is_sharded(engine.module):
        return None
    batch = source.rows(np.arange(min(_ROWS_READ, source.epoch_size)))
    masks = batch.get("attention_mask", torch.ones_like(batch["input_ids"]))
    rows = [ids[mask.bool()][:_TOKENS_READ] for ids, mask in zip(batch["input_ids"], masks, strict=True)]
    used = torch.cat(rows).unique()
    counts = torch.cat([row[1:] for row in rows]).bincount().double()
    shares = counts[counts > 0] / counts.sum()
    exchanged, special = torch.arange(int(used.max()) + 1), set(getattr(source.tokenizer, "all_special_ids", ()))
    ordinary = torch.tensor([int(i) for i in used if int(i) not in special], dtype=torch.long)
    generator = torch.Generator().manual_seed(0)
    for ids in ordinary.split(_NEIGHBOURS):
        exchanged[ids] = ids[torch.randperm(len(ids), generator=generator)]
    loss, expected = _mean_loss(engine, rows)
    others, _ = _mean_loss(engine, [exchanged[row] for row in rows])
    return TokenCost(loss, others, -float((shares * shares.log()).sum()), expected)


def doubt_of_predictions(engine: Engine) -> str:
    """Say that a base does not know the tokens of its text: it predicts others at their places as well.

    A text in a language or script that the base has never read looks the same.

    Args:
        engine: What will train a language model that was trained before.
    """
    asked = token_cost(engine)
    if asked is None or asked.as_is <= asked.by_frequency or asked.knows_tokens:
        return ""
    if asked.as_is - asked.expected < _SURPRISED:
        return ""
    return (
        f"before training the model's loss is {asked.as_is:.2f} nats, {asked.exchanged:.2f} with tokens exchanged at "
        f"random, and {asked.by_frequency:.2f} from their frequencies alone: the tokenizer is not this model's, or the "
        "text is in a language that the model has not learned. Take the tokenizer that the model was trained with, or "
        "a model for this text"
    )


def _mean_loss(engine: Engine, rows: list[torch.Tensor]) -> tuple[float, float]:
    """Mean loss of the next token and mean entropy, in nats; a row at a time, to save memory."""
    model, was_training = engine.model, engine.model.training
    model.eval()
    total, expected, count = 0.0, 0.0, 0
    for row in rows:
        ids = row.to(engine.accelerator.device)[None]
        logits = model(input_ids=ids, attention_mask=torch.ones_like(ids)).logits[0, -len(row) :]
        logs = logits[:-1].float().log_softmax(-1)
        total -= float(logs.gather(1, ids[0, 1:, None]).sum())
        expected -= float((logs.exp() * logs).sum())
        count += len(row) - 1
    model.train(was_training)
    return total / max(count, 1), expected / max(count, 1)
