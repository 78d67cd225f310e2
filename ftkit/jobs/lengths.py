"""Lengths that nobody has set: windows, passages and judged texts as long as model and text allow.

A recipe's default is what is wanted. Where the model has fewer positions or the text is shorter, less is taken; that is
logged with its reason and written into ``config.yaml``. A length that was set and cannot work is refused. Both happen
before anything is made or trained.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, TypeVar

from transformers import TokenizersBackend

from ftkit.config import JudgeSettings, Settings, TrainingSettings
from ftkit.data import TokenStore, tokenize_texts
from ftkit.errors import ConfigError, DataError, FtkitError, ModelError
from ftkit.evidence import MIN_PASSAGES, Thresholds, longest_passage, prompt_room
from ftkit.jobs.texts import Text
from ftkit.models.meta_models import GROWS, known_positions
from ftkit.runs import RunFolder
from ftkit.runs.processes import num_processes

__all__ = [
    "SHORTEST",
    "BaseOutline",
    "Limit",
    "fit_judge",
    "fit_language",
    "fit_length",
    "fit_steps",
    "fit_window",
    "fit_writing",
    "judged_window",
    "outline_of",
]

_logger = logging.getLogger("ftkit.jobs")

S = TypeVar("S", bound=Settings)
T = TypeVar("T", bound=TrainingSettings)
J = TypeVar("J", bound=JudgeSettings)

SHORTEST = {"window_tokens": 8, "passage_chars": 40, "judge_tokens": 8}
"""Below this a length that follows would measure nothing."""
_FEWEST_WINDOWS = 8
"""Windows of other text that an interval of its loss needs."""
_JUDGED_WINDOWS = int(Thresholds().min_windows)
"""Windows of its own held-out text without which a verdict is unsure."""
_SHORTEST_CUT = 32
"""Tokens below which a window is not made shorter only to have more of them."""
_SHORTEST_JUDGED = 120
"""Characters below which a passage is not made shorter only to have enough of them for a judge."""

_USUAL_RATE, _USUAL_SIZE = 5e-5, 1e8
"""Learning rate of AdamW for models of that many parameters and more: transformers' default."""
_RATE_BY_SIZE = -0.9
"""Power of the size by which smaller models take a higher rate. Five epochs of *Alice*, bits per byte of held-out text:
base:tales (0.9 million) 5.48 at 5e-5, 3.14 at 5e-4, 2.68 at 2e-3, 2.51 at 5e-3; stories260k 2.53 at 5e-5, 1.99 at
3e-3."""
_HIGHEST_RATE, _ADAPTER_RATE = 3e-3, 4
"""Rate of the smallest models, and how many times as high an adapter's is: 2e-4, as usual for LoRA, beside 5e-5."""
_WHOLE_SIZE = 5e7
"""Parameters up to which a model is tuned whole: its gradients and AdamW's moments take 0.6 GB at most."""
_FEWEST_EPOCHS, _MOST_EPOCHS, _EPOCHS_BY_SIZE = 5, 20, -0.3
"""Epochs of a text that fits into the default number of steps: 5 for models of 100 million parameters and more, 10 of
10 million, 20 of one million and less. A small model learns little of a text in one reading: base:tales on 5,000 and on
30,000 words of the keeper's log was ``unsure`` after 5 epochs, after 20 ``worked`` and not copied
(docs/recipes/finetune.md)."""
_PATIENCE = 3
"""Evaluations without a better loss after which a small model's training ends. stories260k had read *Alice* often
enough after 2 epochs, base:tales after 9: the best step is kept."""
_FEWEST_UPDATES = 20
"""Updates in an epoch by which the batch is chosen: fewer say little about a text of 20 kB."""


@dataclass(frozen=True)
class Limit:
    """The most that a length can be."""

    most: int
    reason: str
    """A clause: ``the model has 128 positions``."""
    error: type[FtkitError] | None = None
    """Raised where a longer one was set; ``None``: only a length that follows keeps to this limit."""


@dataclass(frozen=True)
class BaseOutline:
    """What is known of a base before it is made or loaded."""

    name: str
    """As the setting ``model`` names it."""
    positions: int | None
    """``None`` where nothing limits them; ``GROWS`` where they follow from the window."""
    load_tokenizer: Callable[[], TokenizersBackend]
    """Makes the tokenizer that texts will be read with."""

    @cached_property
    def tokenizer(self) -> TokenizersBackend:
        """The tokenizer that texts will be read with."""
        return self.load_tokenizer()


def outline_of(settings: TrainingSettings, model: str, load_tokenizer: Callable[[], TokenizersBackend]) -> BaseOutline:
    """Describe a model that is there.

    Args:
        settings: ``revision``, ``trust_remote_code`` and ``allow_pickle`` are read.
        model: A folder, a Hub id, or ``new:...``.
        load_tokenizer: Makes the tokenizer that texts will be read with.
    """
    positions = known_positions(model, settings.revision, trust_remote_code=settings.trust_remote_code)
    return BaseOutline(model, positions, load_tokenizer)


def fit_length(settings: S, run: RunFolder | None, name: str, limits: Iterable[Limit]) -> S:
    """Settle one length.

    Args:
        settings: A recipe's settings.
        run: Where the length is written down; a resumed run takes it from there. ``None``: nowhere.
        name: The setting.
        limits: What limits it.

    Returns:
        The settings, with the length that will be used.

    Raises:
        FtkitError: A set length beyond a limit, by the limit's own class; or the text is too short for any length.
    """
    wanted, reason = getattr(settings, name), ""
    follows = name in (settings.unset_lengths if run is None else run.unset_lengths(settings))
    written = None if run is None or not follows else run.written(name)
    for limit in limits:
        if written is None and follows and limit.most < wanted:
            wanted, reason = max(limit.most, 0), limit.reason
        elif not follows and limit.error and wanted > limit.most:
            remedy = f"set {name} to {limit.most} or less, or leave it out"
            if limit.most < SHORTEST[name]:
                remedy = "give more text or another model"
            raise limit.error(f"{name} is {wanted}, but {limit.reason}; {remedy}")
    if reason and wanted < SHORTEST[name]:
        raise DataError(f"{name}: {reason}, and at least {SHORTEST[name]} are needed; give more text or another model")
    value = wanted if written is None else written
    if reason and run is not None:
        _logger.info("%s: %d, because %s (default %d)", name, value, reason, getattr(settings, name))
    if follows and run is not None:
        run.settle(**{name: value})
    return settings.model_copy(update={name: value}) if value != getattr(settings, name) else settings


def fit_window(
    settings: T, run: RunFolder | None, base: BaseOutline, heldout: Mapping[str, int], general: Iterable[int] = ()
) -> T:
    """Settle ``window_tokens`` by the positions of the model and the held-out texts.

    Args:
        settings: A recipe's settings.
        run: Where the length is written down.
        base: The model.
        heldout: Tokens of each held-out text by name, and of a text with classes none.
        general: Tokens of other texts that are measured.
    """
    extra = settings.extra_positions
    taken = f", {extra} of them virtual tokens" if extra else ""
    limits = []
    if base.positions:
        limits.append(
            Limit(base.positions - extra, f"the model has {base.positions} usable positions{taken}", ModelError)
        )
    for name, tokens in heldout.items():
        limits.append(Limit(tokens, f"{name} has {tokens:,} held-out tokens", DataError))
    needed = [(tokens, _JUDGED_WINDOWS) for tokens in heldout.values()] + [(t, _FEWEST_WINDOWS) for t in general]
    for tokens, fewest in needed:
        most = max(tokens // fewest, _SHORTEST_CUT)
        limits.append(Limit(most, f"held-out text of {tokens:,} tokens has {fewest} windows of it"))
    return fit_length(settings, run, "window_tokens", limits)


def judged_window(wanted: int, tokens: int) -> int:
    """Tokens in a window, ``wanted`` or fewer, so that a held-out text has as many windows as a verdict needs.

    Args:
        wanted: At most so many.
        tokens: Of the held-out text; one that has no window at all is left to be refused.
    """
    return wanted if tokens < wanted else min(wanted, max(tokens // _JUDGED_WINDOWS, _SHORTEST_CUT))


def _warn_of_few_windows(heldout: Mapping[str, int], window_tokens: int) -> None:
    """Say before training what the verdict would say after it."""
    for name, tokens in heldout.items():
        if (windows := tokens // window_tokens) < _JUDGED_WINDOWS:
            _logger.warning(
                "%s: %d held-out windows of %d tokens, and a verdict needs %d: it will be unsure, and the run reports "
                "the loss on held-out text only. Give more text, a larger heldout_share or smaller window_tokens.",
                name, windows, window_tokens, _JUDGED_WINDOWS,
            )  # fmt: skip


def fit_language(
    settings: T, run: RunFolder | None, base: BaseOutline, texts: Mapping[str, Text], task: str = "causal-lm"
) -> T:
    """Settle the lengths of a recipe that learns all its texts together; an encoder writes no passages.

    Args:
        settings: A recipe's settings.
        run: Where they are written down.
        base: The model.
        texts: The texts, by name.
        task: ``causal-lm`` or ``masked-lm``.
    """
    heldout = [piece for text in texts.values() for piece in text.heldout]
    if task == "masked-lm":
        return fit_window(settings, run, base, {"the text": tokenize_texts(heldout, base.tokenizer).num_tokens})
    return fit_writing(settings, run, base, {"the text": heldout}, {})


def fit_judge(settings: J, run: RunFolder | None) -> J:
    """Settle ``judge_tokens`` by the positions of the encoder that becomes the judge.

    Args:
        settings: ``judge_model`` and ``judge_tokens`` are read.
        run: Where it is written down.
    """
    positions = known_positions(settings.judge_model)
    reason = f"the judge {settings.judge_model} has {positions} usable positions"
    return fit_length(settings, run, "judge_tokens", [Limit(positions, reason, ModelError)] if positions else [])


def fit_writing(
    settings: T,
    run: RunFolder | None,
    base: BaseOutline,
    texts: Mapping[str, Sequence[str]],
    general: Mapping[str, Sequence[str]],
    prompt_tokens: int | None = None,
    more: Sequence[Limit] = (),
) -> T:
    """Settle ``window_tokens`` and ``passage_chars`` of a recipe that lets models write.

    Args:
        settings: A recipe's settings.
        run: Where they are written down.
        base: The model.
        texts: The held-out parts of the texts to learn, by name.
        general: The same of other texts that are measured.
        prompt_tokens: Tokens before a passage; ``None`` for those of a few words, of which there are fewer where a set
            ``passage_chars`` leaves no room.
        more: What else limits a passage.
    """
    stores: dict[str, TokenStore] = {
        name: tokenize_texts(text, base.tokenizer) for name, text in {**general, **texts}.items()
    }
    counts = {name: store.num_tokens for name, store in stores.items()}
    others = [counts[name] for name in general if name not in texts]
    heldout = {name: counts[name] for name in texts}
    settings = fit_window(settings, run, base, heldout, others)
    if run is not None:
        _warn_of_few_windows(heldout, settings.window_tokens)
    extra = settings.extra_positions
    positions = settings.window_tokens + extra if base.positions == GROWS else base.positions
    limits = list(more)
    if positions:
        _check_prompts(settings, positions - extra, base.tokenizer)
        for name, text in texts.items():
            limits += _positions_for_passages(positions - extra, text, stores[name], prompt_tokens)
    for name, text in {**general, **texts}.items():
        characters = sum(map(len, text))
        most = max(int(0.95 * characters / MIN_PASSAGES), _SHORTEST_JUDGED)  # passages are cut at spaces
        limits.append(Limit(most, f"a judge needs {MIN_PASSAGES} passages of the held-out text of {name}"))
    return fit_length(settings, run, "passage_chars", limits)


def _positions_for_passages(
    positions: int, text: Sequence[str], store: TokenStore, prompt_tokens: int | None
) -> Iterator[Limit]:
    """What a model's positions hold of a text: after one token where a length is set, else after a prompt."""
    most = longest_passage(positions - (prompt_tokens or 1), store)
    holds = f"the model has {positions} positions, which hold about"
    yield Limit(most, f"{holds} {most} characters of this text", ConfigError)
    if prompt_tokens is None:
        with_prompt = longest_passage(positions - prompt_room(positions, text, store.num_tokens), store)
        most = max(with_prompt, min(most, SHORTEST["passage_chars"]))
        yield Limit(most, f"{holds} {most} characters of this text after a prompt")


def _check_prompts(settings: TrainingSettings, positions: int, tokenizer: TokenizersBackend) -> None:
    """Refuse a beginning of samples that leaves no position for a new token."""
    for name in ("sample_prompt", "prompt"):
        tokens = len(tokenizer(getattr(settings, name, ""), add_special_tokens=False)["input_ids"])
        if tokens >= positions:
            raise ConfigError(
                f"{name}: has {tokens} tokens, and the model has {positions} positions; give a shorter one"
            )


@dataclass(frozen=True)
class _Epoch:
    """What a training goes through once, and the model that it tunes."""

    rows: float
    amount: str
    parameters: int
    steps_follow: bool
    """Whether nobody has set the number of steps or of epochs."""

    @property
    def num_epochs(self) -> int:
        """Epochs where the steps follow."""
        found: int = round(_FEWEST_EPOCHS * (self.parameters / _USUAL_SIZE) ** _EPOCHS_BY_SIZE)
        return min(max(found, _FEWEST_EPOCHS), _MOST_EPOCHS)

    @property
    def may_overfit(self) -> bool:
        """Whether the steps follow and are more epochs than some texts bear."""
        return self.steps_follow and self.num_epochs > _FEWEST_EPOCHS


def fit_steps(settings: T, parameters: int, run: RunFolder, rows: float, amount: str) -> T:
    """Choose method, batch, rate and steps where nobody has set them; log the reasons, write down the values.

    Args:
        settings: The recipe's settings.
        parameters: Of the base.
        run: Where they are written; a resumed run takes them from there.
        rows: Windows or examples in an epoch.
        amount: What an epoch consists of, for people: ``51,144 tokens``.

    Returns:
        The settings of the training.
    """
    follow = run.unset_lengths(settings)
    steps_follow = "max_steps" in follow and not getattr(settings, "num_train_epochs", 0)
    epoch = _Epoch(rows, amount, parameters, steps_follow)
    for name, choose in _CHOICES.items():
        if name not in follow:
            continue
        value, reason = choose(settings, epoch)
        value = value if run.written(name) is None else run.written(name)
        changed = settings.model_copy(update={name: value})
        if changed.problems():
            continue  # another setting, such as a long warm-up, was made for the default
        if value != getattr(settings, name):
            chosen, default = _short(value), _short(getattr(settings, name))
            _logger.info("%s: %s, because %s (default %s)", name, chosen, reason, default)
        run.settle(**{name: value})
        settings = changed
    return settings


def _short(value: str | float) -> str:
    return str(value).lower() if isinstance(value, str | bool) else f"{value:g}"


def _method(settings: Any, epoch: _Epoch) -> tuple[str, str]:
    if epoch.parameters <= _WHOLE_SIZE or "learning_rate" not in settings.unset_lengths:
        return settings.peft, ""  # a rate that somebody has set is one for the method that they had in mind
    return "lora", f"tuning all {epoch.parameters:,} parameters takes much memory (peft: none does it)"


def _batch(settings: Any, epoch: _Epoch) -> tuple[int, str]:
    rows = int(epoch.rows / (_FEWEST_UPDATES * num_processes()))
    most = settings.per_device_train_batch_size
    return min(max(rows, 1), most), f"an epoch of {epoch.amount} is then {_FEWEST_UPDATES} updates"


def _rate(settings: Any, epoch: _Epoch) -> tuple[float, str]:
    if settings.optimizer not in ("adam", "adamw"):
        return settings.learning_rate, ""
    rate = _USUAL_RATE * min(epoch.parameters / _USUAL_SIZE, 1.0) ** _RATE_BY_SIZE
    rate *= 1 if settings.peft == "none" else _ADAPTER_RATE
    kind = "whole" if settings.peft == "none" else f"through {settings.peft}"
    return float(f"{min(rate, _HIGHEST_RATE):.1g}"), f"a model of {epoch.parameters:,} parameters is tuned {kind}"


def _steps(settings: Any, epoch: _Epoch) -> tuple[int, str]:
    if settings.num_train_epochs:
        return settings.max_steps, ""
    rows = settings.per_device_train_batch_size * settings.gradient_accumulation_steps * num_processes()
    return min(
        max(round(epoch.num_epochs * epoch.rows / rows), 1), settings.max_steps
    ), f"they are {epoch.num_epochs} epochs"


def _best(settings: Any, epoch: _Epoch) -> tuple[bool, str]:
    reason = f"{epoch.num_epochs} epochs are too many for some texts"
    return settings.load_best_model_at_end or epoch.may_overfit, reason


def _patience(settings: Any, epoch: _Epoch) -> tuple[int, str]:
    waits = _PATIENCE if epoch.may_overfit else settings.early_stopping_patience
    return waits, "more epochs than the text needs take time"


_CHOICES: dict[str, Callable[[Any, _Epoch], tuple[str | float, str]]] = {
    "peft": _method, "per_device_train_batch_size": _batch, "learning_rate": _rate, "max_steps": _steps,
    "load_best_model_at_end": _best, "early_stopping_patience": _patience,
}  # fmt: skip
"""What follows, in this order: the rate depends on the method, and the number of steps on the batch."""
