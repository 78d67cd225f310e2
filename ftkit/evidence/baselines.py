"""What a classifier must beat: linear models on counted words, and on what the model says before it is fine-tuned.

Fine-tuning that is no better than a logistic regression on frozen features has taught the model nothing that it did not
hold already.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import FeatureUnion, Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from ftkit.data import LabelledTexts
from ftkit.data.words import plain_words
from ftkit.memory import memory_phase
from ftkit.training import Predictions
from ftkit.training.classifiers import text_batches

__all__ = ["feature_baseline", "spelling_features", "spelling_model", "text_features", "word_baseline"]

_STEPS = 2000
"""Of the solver, at most."""
_FUNCTION_WORDS = 150
"""Most frequent words of the texts; in prose of any language these are function words."""


def spelling_model(seed: int = 0) -> Pipeline:
    """Logistic regression on character n-grams and on the rates of the most frequent words, which are function words.

    Args:
        seed: Seed of the solver.
    """
    model = LogisticRegression(C=100.0, class_weight="balanced", max_iter=2000, random_state=seed)
    return make_pipeline(spelling_features(), model)


def spelling_features() -> FeatureUnion:
    """Weighted counts of character n-grams, and rates of the most frequent words."""
    characters = TfidfVectorizer(
        analyzer="char", ngram_range=(1, 4), min_df=2, max_features=50_000, sublinear_tf=True, lowercase=False
    )
    words = TfidfVectorizer(max_features=_FUNCTION_WORDS, tokenizer=plain_words, token_pattern=None, use_idf=False)
    return FeatureUnion([("characters", characters), ("words", words)])


def word_baseline(train: LabelledTexts, test: LabelledTexts, seed: int = 0) -> Predictions:
    """Logistic regression on weighted counts of single words and pairs of words.

    Args:
        train: Texts to learn from.
        test: Texts to be tested on.
        seed: Seed of the solver.
    """
    counts = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, tokenizer=plain_words, token_pattern=None)
    model = make_pipeline(
        counts, LogisticRegression(C=10.0, class_weight="balanced", max_iter=_STEPS, random_state=seed)
    )
    model.fit(train.texts, train.labels)
    return Predictions(model.predict_log_proba(test.texts), np.array(test.labels))


def feature_baseline(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    train: LabelledTexts,
    test: LabelledTexts,
    max_tokens: int,
    seed: int = 0,
) -> Predictions:
    """Logistic regression on what the untrained classifier's body says of each text.

    Args:
        model: The classifier before its training; it is not changed.
        tokenizer: Its tokenizer.
        train: Texts to learn from.
        test: Texts to be tested on.
        max_tokens: Longer texts are cut here.
        seed: Seed of the solver.
    """
    features, asked = (text_features(model, tokenizer, side.texts, max_tokens) for side in (train, test))
    linear = make_pipeline(
        StandardScaler(), LogisticRegression(C=0.01, class_weight="balanced", max_iter=_STEPS, random_state=seed)
    )
    linear.fit(features, train.labels)
    return Predictions(linear.predict_log_proba(asked), np.array(test.labels))


@memory_phase("evaluate")
@torch.inference_mode()
def text_features(
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    texts: Sequence[str],
    max_tokens: int,
    batch_rows: int = 64,
) -> np.ndarray:
    """Mean of the last layer's vectors over each text's tokens, float64 [texts, width].

    Args:
        model: A classifier; its body is asked, its head is not.
        tokenizer: Its tokenizer.
        texts: The texts.
        max_tokens: Longer texts are cut here.
        batch_rows: Texts in a forward pass.
    """
    body: Any = model.base_model
    ids = tokenizer(list(texts), truncation=True, max_length=max_tokens)["input_ids"]
    order, found = [], []
    for places, batch in text_batches(model, ids, int(tokenizer.pad_token_id), batch_rows):
        states_BTD = body(**batch).last_hidden_state
        mask_BT1 = batch["attention_mask"][..., None].to(states_BTD.dtype)
        found.append(((states_BTD * mask_BT1).sum(1) / mask_BT1.sum(1)).double().cpu().numpy())
        order.append(places)
    result = np.empty((len(ids), found[0].shape[1]))
    result[np.concatenate(order)] = np.concatenate(found)
    return result
