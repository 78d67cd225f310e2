"""What do two models write when they continue one text in turns?

Each text makes a speaker from one base; or speakers are named that are finished already. The transcript says for every
turn how much of the text its speaker read and how open its next token was.

    ftkit run dialogue --corpora alice=gutenberg:11 --corpora edgar=gutenberg:2148
    ftkit run dialogue --speakers edgar=FOLDER --speakers alice=FOLDER --rounds 5
"""

import re
from typing import Any, Literal

from pydantic import Field

from ftkit.recipe import Problem, RunFolder, TrainingSettings, launch, recipe


class DialogueSettings(TrainingSettings):
    """A talk: the shared settings for making speakers, who speaks, and how long."""

    FAST = {
        "model": "new:ftkit_gpt2,num_hidden_layers=2,hidden_size=64,num_attention_heads=2", "tokenizer": "train:512",
        "corpora": {"keeper": "voices:keeper:6000", "almanac": "voices:almanac:6000"}, "max_steps": 20,
        "window_tokens": 64, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1, "optimizer": "adamw",
        "learning_rate": 3e-3, "warmup_steps": 0, "eval_steps": 10, "eval_windows": 8, "save_steps": 10,
        "rounds": 3, "new_tokens": 20, "sampling": "top50",
    }  # fmt: skip

    model: str = "base:tales"
    """What every speaker is made from: a folder, a Hub id, new:FAMILY,..., or base:CONFIG."""
    corpora: dict[str, str] = {}
    """A text for each speaker that is to be made: {sources}."""
    speakers: dict[str, str] = {}
    """Finished speakers instead: a model's folder or Hub id for each name. The first of all answers the opening."""
    opening: str = "Hello, my name is Alice."
    """The text before the first turn."""
    rounds: int = Field(default=5, ge=1, le=1000)
    """Turns of each speaker."""
    new_tokens: int = Field(default=50, ge=1)
    """Tokens of a turn."""
    sampling: Literal["plain", "greedy", "focused", "creative", "top50", "judged"] = "top50"
    """How tokens are drawn."""

    def problems(self) -> list[Problem]:
        """Two speakers or more, made or finished."""
        found = super().problems()
        names = [*self.corpora, *self.speakers]
        if self.corpora and self.speakers:
            found.append(("speakers", "and corpora are both given; keep one of them"))
        elif len(names) < 2:
            found.append(("corpora", f"needs two texts or more, or speakers two models, found {len(names)}"))
        found += [("corpora", f"{n!r} cannot be a folder's name") for n in names if not re.fullmatch(r"\w[\w .-]*", n)]
        return found


@recipe
def main(settings: DialogueSettings, run: RunFolder) -> None:
    """Speakers, the dialogue, report."""
    from ftkit.data import load_tokenizer
    from ftkit.generation import PRESETS, Speaker, converse
    from ftkit.jobs import finish, load_saved
    from ftkit.models import check_vocabulary
    from ftkit.runs import progress

    made = make_speakers(settings, run) if settings.corpora else settings.speakers
    if not run.is_main:
        return

    # The dialogue.
    speakers = []
    for name, model in made.items():
        loaded = load_saved(settings, model)
        tokenizer = load_tokenizer(model, trust_remote_code=settings.trust_remote_code)
        check_vocabulary(loaded, tokenizer)
        speakers.append(Speaker(name, loaded, tokenizer))
    dialogue = converse(
        speakers, settings.opening, settings.rounds, new_tokens=settings.new_tokens,
        sampling=PRESETS[settings.sampling], seed=settings.seed,
    )  # fmt: skip
    turns = []
    with progress("dialogue", settings.rounds * len(speakers), 0) as bar:
        for turn in dialogue:
            turns.append(turn.as_dict())
            bar.advance(turn.speaker)
    transcript = "".join(turn["text"] for turn in turns)
    run.write_text("transcript.txt", f"{settings.opening}{transcript}\n")
    evidence = {"finding": finding(turns), "dialogue": {"opening": settings.opening, "turns": turns}}
    finish(run, evidence, None, report_section())


def finding(turns: list[dict[str, Any]]) -> str:
    """Entropy of each speaker and the length of what was read, in one sentence."""
    parts = []
    for name in dict.fromkeys(turn["speaker"] for turn in turns):
        bits = [turn["entropy"] for turn in turns if turn["speaker"] == name and turn["entropy"] is not None]
        parts.append(f"{name} {sum(bits) / len(bits):.2f}" if bits else f"{name} nothing")
    read = sum(turn["context_tokens"] for turn in turns) / len(turns)
    cut = sum(bool(turn["left_out"]) for turn in turns)
    shortened = f"; {cut} turns saw only the end of the text" if cut else ""
    return f"Mean entropy in bits per token: {', '.join(parts)}. A turn read {read:.0f} tokens on average{shortened}."


def make_speakers(settings: DialogueSettings, run: RunFolder) -> dict[str, str]:
    """One model for each text, from one base; folders by name."""
    from ftkit.data import tokenize_texts
    from ftkit.jobs import (
        TrainingText,
        fit_window,
        foresee_base,
        load_start,
        load_start_tokenizer,
        load_texts,
        prepare_base,
        read_special_tokens,
        train_model,
    )
    from ftkit.models import check_positions, check_vocabulary
    from ftkit.training import HeldOutWindows, TokenWindows
    from ftkit.tuning import check_tuning

    texts = load_texts(settings.corpora, settings, run)
    train_texts = [piece for text in texts.values() for piece in text.train]
    outline, _ = foresee_base(settings, train_texts)
    counts = {name: tokenize_texts(text.heldout, outline.tokenizer).num_tokens for name, text in texts.items()}
    settings = fit_window(settings, run, outline, counts)
    base = prepare_base(settings.model)
    run.require_same(base=base.model)
    tokenizer = load_start_tokenizer(settings, base.model, train_texts)
    read_special_tokens(settings, run, texts, tokenizer)

    def new_model() -> Any:
        model = load_start(settings, base.model, vocab_size=len(tokenizer), max_positions=settings.window_tokens)
        check_vocabulary(model, tokenizer)
        check_positions(model, settings.window_tokens, "window_tokens")
        check_tuning(model, settings)
        return model

    for name, text in texts.items():
        source = TokenWindows(tokenize_texts(text.train, tokenizer), settings.window_tokens, settings.seed)
        heldout = HeldOutWindows(tokenize_texts(text.heldout, tokenizer), settings.window_tokens)
        train_model(run, name, new_model, TrainingText(source, heldout), settings)
    return {name: str(run.model(name)) for name in texts}


def report_section() -> Any:
    """Return what this recipe adds to the report; ``ftkit report`` calls it too."""
    from ftkit.lab.sections import DIALOGUE

    return DIALOGUE


if __name__ == "__main__":
    launch(main)
