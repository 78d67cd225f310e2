"""What readers of language say of real and of corrupted text: the figures of docs/verdict.md, "Is it language?".

cd scripts && ../.venv/bin/python -m benchmarks.language_readers BOOK.txt [--reference FOLDER]
"""

import argparse
import random

import numpy as np

from batteries.texts import mixture
from ftkit.data import load_corpus, load_tokenizer
from ftkit.evidence import Reference, cut_passages, exact_share
from ftkit.evidence.corrupted import character_chain, shuffle_passages
from ftkit.evidence.language import counted_letters, learn_language, passage_costs
from ftkit.models import load_model

_CHARACTERS, _PASSAGES = 400, 48
"""Of a passage, and passages of each kind: those of a first look."""
_LEVEL = 1 - 0.05 / 9
"""Of one of three rules on language at one of three looks."""


def kinds(train: list[str], real: list[str]) -> dict[str, list[str]]:
    """Real passages and passages that are no language."""
    draw, words = random.Random(7), " ".join(train).split()
    chains = {
        f"chain of order {order}": character_chain(train, order, _PASSAGES, _CHARACTERS, draw) for order in (4, 6, 8)
    }
    salad = [" ".join(draw.choices(words, k=_CHARACTERS // 5)) for _ in range(_PASSAGES)]
    mixed = cut_passages([mixture("\n\n".join(train), 0)], _CHARACTERS)[:_PASSAGES]
    some = round(0.6 * _PASSAGES)
    return {
        "real": real, "shuffled words": shuffle_passages(real, random.Random(0)), **chains, "random words": salad,
        "60 % real words, 40 % of a chain of order 4, by 30": mixed,
        "60 % real passages, 40 % of a chain of order 4": real[:some] + chains["chain of order 4"][some:],
    }  # fmt: skip


def main() -> None:
    """Print one line for each kind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("book")
    parser.add_argument("--reference", help="language model that reads the passages as well")
    asked = parser.parse_args()
    text = "\n\n".join(document.text for document in load_corpus(asked.book, name="book").documents)
    cut = int(0.85 * len(text))
    train, real = cut_passages([text[:cut]], _CHARACTERS), cut_passages([text[cut:]], _CHARACTERS)[:_PASSAGES]
    groups, classifier = kinds(train, real), learn_language(train)
    assert classifier is not None
    print(f"counted letters: {counted_letters(train, real):.2f} bits per byte")
    costs = {}
    if asked.reference:
        reference = Reference(asked.reference, load_model(asked.reference), load_tokenizer(asked.reference))
        costs = {name: passage_costs(reference, passages) for name, passages in groups.items()}
    for name, passages in groups.items():
        line = f"{name}: taken for real {np.mean(classifier.real_side(passages) > 0.5):.0%}"
        if costs:
            low, high = costs["real"], costs["shuffled words"]
            excess = (costs[name].mean - low.mean) / (high.mean - low.mean)
            each = costs[name].excess(low, high)
            share = exact_share(int((each > 0.5).sum()), len(each), _LEVEL)
            line += f", excess {excess:.2f}, gibberish {share.value:.0%} [{share.low:.0%}, {share.high:.0%}]"
        print(line)


if __name__ == "__main__":
    main()
