"""What base and tuned model write after a person's own prompts, side by side. It decides nothing."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ftkit.display.tables import Cell, PageTable, Part
from ftkit.evidence.measure import Measure

if TYPE_CHECKING:
    from transformers import PreTrainedModel

    from ftkit.evidence.comparison import Comparison

__all__ = ["MEASURE", "Continued", "OwnPrompts"]

_PRESETS = ("plain", "focused")
"""As the model is, and as people mostly let it write."""
_NEW_TOKENS = 60
"""Of a continuation: some lines of a table."""


@dataclass(frozen=True)
class Continued:
    """One prompt, continued."""

    prompt: str
    sampling: str
    base: str
    tuned: str


@dataclass(frozen=True)
class OwnPrompts:
    """All prompts in their order, with each way of sampling."""

    texts: tuple[Continued, ...]


class OwnPromptsMeasure(Measure[OwnPrompts]):
    """Lets both models continue prompts of a person's own."""

    name, place, result, unit, needs = "own_prompts", 95, OwnPrompts, "texts", ("weights",)
    question = "What do both models write after your own prompts?"

    def compute(self, comparison: Comparison) -> OwnPrompts | None:
        if not comparison.texts.prompts or comparison.masking is not None:
            return None
        tokenizer = comparison.heldout_text.tokenizer
        own = comparison.texts.tuned_heldout
        tuned = _continued(comparison, comparison.tuned, own.tokenizer if own else tokenizer)
        with comparison.as_base() as model:
            base = _continued(comparison, model, tokenizer)
        prompts = comparison.texts.prompts
        return OwnPrompts(
            tuple(
                Continued(prompt, preset, base[preset][at], tuned[preset][at])
                for at, prompt in enumerate(prompts)
                for preset in _PRESETS
            )
        )

    def parts(self, results: Mapping[str, OwnPrompts], document: Mapping[str, Any]) -> Iterable[Part]:
        tables = [
            PageTable(
                f"{name}: one sample of each model; {_NEW_TOKENS} tokens at most",
                ("Prompt", "Sampling", "Base model", "Tuned model"),
                [
                    (each.prompt, [[each.sampling, Cell(each.base, "quote"), Cell(each.tuned, "quote")]])
                    for each in found.texts
                ],
            )
            for name, found in results.items()
        ]
        yield Part("own-prompts", "Your prompts", "", tables, link="Your prompts")


def _continued(comparison: Comparison, model: PreTrainedModel, tokenizer: Any) -> dict[str, list[str]]:
    """What a model writes after each prompt, by the way of sampling."""
    from ftkit.generation import PRESETS, generate_passages

    prompts = comparison.texts.prompts
    return {
        preset: [
            passage.text
            for passage in generate_passages(
                model, tokenizer, prompts, new_tokens=_NEW_TOKENS, sampling=PRESETS[preset], seed=0
            )
        ]
        for preset in _PRESETS
    }


MEASURE = OwnPromptsMeasure()
