"""A model whose tokenizer does not know the script of its text gets no figure that it has not earned."""

import logging
import string

import pytest
from recipe_runs import lines, read, run_recipe
from tokenizers import Tokenizer, models, pre_tokenizers

from ftkit.data import voice_text
from ftkit.data.made_tokenizers import wrapped
from ftkit.models import load_model, save_model

CYRILLIC = str.maketrans(string.ascii_lowercase, "".join(chr(code) for code in range(0x0430, 0x0430 + 26)))


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    folder = tmp_path_factory.mktemp("unknown")
    (folder / "text.txt").write_text(voice_text("keeper", 5000).lower().translate(CYRILLIC), encoding="utf-8")
    vocabulary = {token: number for number, token in enumerate(["<unk>", "</s>", *string.printable.strip()])}
    backend = Tokenizer(models.BPE(vocabulary, [], unk_token="<unk>", fuse_unk=True))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer = wrapped(backend, unk_token="<unk>", eos_token="</s>")
    model = load_model("new:gpt2,n_layer=1,n_embd=32,n_head=2", vocab_size=len(tokenizer), max_positions=96)
    save_model(model, tokenizer, folder / "base")
    handler = logging.Handler()
    said: list[str] = []
    handler.emit = lambda record: said.append(record.getMessage())
    logging.getLogger("ftkit").addHandler(handler)
    made = run_recipe(
        "finetune", folder / "run", model=folder / "base", corpus=folder / "text.txt", max_steps=12, window_tokens=48,
        learning_rate=0.01, eval_steps=6, save_steps=0, sample_steps=12, passage_chars=40, num_passages=30,
    )  # fmt: skip
    logging.getLogger("ftkit").removeHandler(handler)
    return made, said


def test_its_verdict_is_unsure_and_no_bits_per_byte_stand_anywhere(run):
    made, said = run
    verdict, evidence = read(made, "verdict.json")["tuned"], read(made, "evidence.json")["models"]["tuned"]
    assert verdict["verdict"] == "unsure"
    assert verdict["reasons"][0].startswith("no bits per byte and no gain are claimed: the tokenizer cannot write")
    assert evidence["heldout"]["unknown_bytes"] > 0.5
    assert {evidence["heldout"][name]["value"] for name in ("gain", "base", "tuned")} == {None}
    assert {r["bits_per_byte"] for r in lines(made, "metrics.jsonl") if r["split"] == "heldout"} == {None}
    assert any("cannot write" in line and "no bits per byte are claimed" in line for line in said)
    page = (made / "report.html").read_text(encoding="utf-8")
    assert "so no bits per byte are claimed" in page
    assert "start from a model whose tokenizer knows this script" in page
