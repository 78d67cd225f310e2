"""A program with little memory: it loads, trains, evaluates, generates or judges.

usage: starved.py PHASE FOLDER
"""

import os
import sys
from pathlib import Path

import torch
import trials

from ftkit.config.launch import report_errors
from ftkit.data import load_tokenizer, tokenize_texts, train_wordpiece
from ftkit.evidence import EncoderJudge, Panel
from ftkit.generation import generate_passages
from ftkit.models import load_model, save_model
from ftkit.training import HeldOutWindows, held_out_loss

MEGA = 2**20


def main(phase: str, folder: Path) -> None:
    """Prepare with all memory, act with little."""
    torch.set_num_threads(1)
    if phase == "judge":
        tokenizer = train_wordpiece(["a word and a word"] * 40, 100)
        classifier = load_model(
            "new:bert", task="sequence-classification", vocab_size=len(tokenizer), labels=["a", "b"]
        )
        judge = EncoderJudge(classifier, tokenizer, 64)
        trials.starve(4 * MEGA)
        Panel([judge], {}).score_step("a", ["a word and a word " * 20] * 64)
    model = load_model("new:gpt2,n_embd=64", vocab_size=100_000, max_positions=64)
    tokenizer = load_tokenizer("byte")
    if phase == "load":
        save_model(model, tokenizer, folder / "model")
        trials.starve(10 * MEGA)
        load_model(str(folder / "model"))
    if phase == "evaluate":
        store = tokenize_texts(["a word and a word " * 200], tokenizer, cache=folder)
        trials.starve(60 * MEGA)
        held_out_loss(model, HeldOutWindows(store, 64))
    if phase == "generate":
        trials.starve(20 * MEGA)
        generate_passages(model, tokenizer, ["a word"] * 64, new_tokens=8)


if __name__ == "__main__":
    os.environ["HF_HUB_OFFLINE"] = "1"
    sys.exit(report_errors(lambda: main(sys.argv[1], Path(sys.argv[2]))))
