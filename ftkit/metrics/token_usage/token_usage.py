"""Share of tokens that belong to a list, as a module of ``evaluate``."""

from typing import Any

import datasets
import evaluate

from ftkit.data import load_tokenizer, tokenize_texts
from ftkit.evidence import bootstrap, frequent_tokens, token_shares


class TokenUsage(evaluate.Metric):  # type: ignore[misc]
    """How much generated text uses the tokens that a text uses most."""

    def _info(self) -> evaluate.MetricInfo:
        return evaluate.MetricInfo(
            description="Share of tokens that are among the most frequent ones of a text, with a 95 % interval.",
            citation="",
            inputs_description=(
                "predictions: generated passages. train_texts: the text. tokenizer: a model's folder or Hub id. "
                "top: how many tokens, 100 without it."
            ),
            features=datasets.Features({"predictions": datasets.Value("string")}),
        )

    def _compute(
        self, predictions: list[str], train_texts: list[str], tokenizer: str, top: int = 100
    ) -> dict[str, Any]:
        loaded = load_tokenizer(tokenizer)
        tokens = frequent_tokens(tokenize_texts(train_texts, loaded), loaded, top)
        shares = token_shares([passage for passage in predictions if passage], loaded, tokens)
        return {"tokens": len(tokens), **bootstrap(lambda drawn: drawn.mean(-1), shares).as_dict()}
