"""Labels equal those of TRL's SFTTrainer, but for what is said here; where trl is missing, a recorded table stands in.

``python tests/data/test_trl_labels.py`` writes the table again, from TRL.
"""

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import pytest
from dialogues import DIALOGUES, LLAMA, TEMPLATES, as_example, as_messages, chat_tokenizer

from ftkit.data import load_tokenizer, tokenize_examples, voice_text
from ftkit.errors import DataError
from ftkit.models import load_model

TABLE = Path(__file__).with_name("expected_labels.json")
OLD_NAME = pytest.mark.filterwarnings("ignore:.*gradient_checkpointing:FutureWarning")  # of trl 1.16 and peft 0.21
Row = dict[str, list[int]]

try:
    import trl
    from datasets import Dataset
    from trl.trainer.sft_config import SFTConfig
    from trl.trainer.sft_trainer import SFTTrainer

    CHAT_TEMPLATES = Path(trl.__file__).parent / "chat_templates"
except ImportError:
    trl = None  # type: ignore[assignment]
needs_trl = pytest.mark.skipif(trl is None, reason="trl is not installed: labels are compared with the table alone")


def trl_labels(tokenizer: Any, row: dict[str, Any], **options: Any) -> Row:
    """What SFTTrainer makes of one example."""
    model = load_model("new:gpt2,n_layer=1,n_embd=16,n_head=2", seed=0, vocab_size=1000, max_positions=64)
    config = SFTConfig("unused", report_to="none", use_cpu=True, max_length=None, loss_type="nll", **options)
    trainer = SFTTrainer(model, args=config, train_dataset=Dataset.from_list([row]), processing_class=tokenizer)
    made: Any = trainer.train_dataset
    (found,) = made
    return {"input_ids": found["input_ids"], "labels": found["labels"]}


def without_newline_after_the_end(tokenizer: Any, row: Row) -> Row:
    """TRL asks for the white space that a template writes after the last end of turn; ftkit does not."""
    labels = list(row["labels"])
    for place in range(len(labels) - 1, 0, -1):
        if tokenizer.decode([row["input_ids"][place]]).strip():
            break
        labels[place] = -100
    return {"input_ids": row["input_ids"], "labels": labels}


CASES = [
    (template, mode, dialogue)
    for template in TEMPLATES
    for mode in ("completion", "assistant")
    for dialogue in DIALOGUES
    if (mode == "completion" or template in ("chatml marked", "llama"))  # trl refuses assistant-only without marks
    and (template != "plain" or len(DIALOGUES[dialogue]) == 2)  # strings are one prompt and one completion
]


def tokenizer_of(template: str) -> Any:
    eos = "<|eot_id|>" if template == "llama" else "<|im_end|>"
    return chat_tokenizer(TEMPLATES[template], bos="<|begin_of_text|>" if template == "llama" else eos, eos=eos)


def from_trl(template: str, mode: str, name: str) -> Row:
    tokenizer, dialogue = tokenizer_of(template), DIALOGUES[name]
    if template == "plain":
        row: dict[str, Any] = {"prompt": dialogue[0][1], "completion": dialogue[1][1]}
        return trl_labels(tokenizer, row)
    if mode == "completion":
        row = {"prompt": as_messages(dialogue[:-1]), "completion": as_messages(dialogue[-1:])}
        return without_newline_after_the_end(tokenizer, trl_labels(tokenizer, row))
    if template == "llama":  # trl exchanges the template for its own marked one where it is the same to the letter
        tokenizer.chat_template = (CHAT_TEMPLATES / "llama3_training.jinja").read_text(encoding="utf-8")
    return trl_labels(tokenizer, {"messages": as_messages(dialogue)}, assistant_only_loss=True)


def from_ftkit(template: str, mode: str, name: str) -> Row:
    dialogue = DIALOGUES[name]
    first = len(dialogue) - 1 if mode == "completion" else 0
    (row,) = tokenize_examples([as_example(dialogue, first=first)], tokenizer_of(template))
    return row


@pytest.mark.parametrize(("template", "mode", "dialogue"), CASES)
def test_labels_are_those_of_the_table(template: str, mode: str, dialogue: str) -> None:
    expected = json.loads(TABLE.read_text(encoding="utf-8"))
    assert from_ftkit(template, mode, dialogue) == expected[f"{template}, {mode}-only, {dialogue}"]


def test_the_table_has_no_other_rows() -> None:
    assert list(json.loads(TABLE.read_text(encoding="utf-8"))) == [f"{t}, {m}-only, {d}" for t, m, d in CASES]


@needs_trl
@OLD_NAME
@pytest.mark.parametrize(("template", "mode", "dialogue"), CASES)
def test_the_table_is_what_trl_makes(template: str, mode: str, dialogue: str) -> None:
    expected = json.loads(TABLE.read_text(encoding="utf-8"))
    assert from_trl(template, mode, dialogue) == expected[f"{template}, {mode}-only, {dialogue}"]


@needs_trl
def test_the_templates_of_the_table_write_what_the_real_ones_write() -> None:
    real = (CHAT_TEMPLATES / "llama3.jinja").read_text(encoding="utf-8")
    for dialogue in DIALOGUES.values():
        for opening in (False, True):
            texts = [
                chat_tokenizer(template).apply_chat_template(
                    as_messages(dialogue), tokenize=False, add_generation_prompt=opening
                )
                for template in (LLAMA, real)
            ]
            assert texts[0] == texts[1]


# All templates that trl brings along, on a tokenizer with merges.


def brought_along() -> Iterator[Any]:
    """The templates of trl by name; models that see pictures want lists where these have text."""
    for file in sorted(CHAT_TEMPLATES.glob("*.jinja")) if trl else ():
        if not file.stem.startswith("llava_next"):
            yield pytest.param(file, id=file.stem)


WRITES_THE_PROMPT_OTHERWISE = re.compile(r"deepseek_r1_distill|deepseekv3|nemotron_3_[a-z0-9_]+")
"""Templates that open an answer with a mark of reasoning that an answer without reasoning does not have: refused, where
TRL trains on a context that the model never sees when it is used."""


@needs_trl
@OLD_NAME
@pytest.mark.parametrize("file", list(brought_along()))
@pytest.mark.parametrize("name", ["one turn", "two turns", "system and two turns"])
def test_what_trl_asks_and_ftkit_does_not_is_context_or_white_space_after_an_end(file: Path, name: str) -> None:
    template, dialogue = file.read_text(encoding="utf-8"), DIALOGUES[name]
    tokenizer: Any = load_tokenizer("train:400", texts=[voice_text("keeper", 2000)])
    marks = sorted(set(re.findall(r"<[^<>\s{}']{2,40}>|\[/?[A-Z_]{3,20}\]", template)))
    tokenizer.add_special_tokens({"additional_special_tokens": marks})
    tokenizer.add_special_tokens({"bos_token": "<bos>", "eos_token": "<eos>", "pad_token": "<pad>"})
    tokenizer.chat_template = template
    marked = file.stem.endswith("_training")
    if "gemma" in file.stem and "System role not supported" in template and dialogue[0][0] == "system":
        pytest.skip("the template refuses a system message")
    if marked:
        theirs = trl_labels(tokenizer, {"messages": as_messages(dialogue)}, assistant_only_loss=True)
    else:
        row = {"prompt": as_messages(dialogue[:-1]), "completion": as_messages(dialogue[-1:])}
        theirs = trl_labels(tokenizer, row)
    example = as_example(dialogue, first=0 if marked else len(dialogue) - 1)
    if not marked and WRITES_THE_PROMPT_OTHERWISE.fullmatch(file.stem):
        with pytest.raises(DataError, match="writes the prompt in another way"):
            tokenize_examples([example], tokenizer)
        return
    (ours,) = tokenize_examples([example], tokenizer)
    ids, more = theirs["input_ids"], ours["input_ids"][len(theirs["input_ids"]) :]
    assert ours["input_ids"][: len(ids)] == ids
    assert more in ([], [tokenizer.eos_token_id])
    assert bool(more) == (file.stem == "glm4moe")  # it writes no end of turn, so the model would never learn to stop
    assert_only_context_or_white_space(tokenizer, dialogue, theirs, ours)


def assert_only_context_or_white_space(tokenizer: Any, dialogue: Any, theirs: Row, ours: Row) -> None:
    """Whatever ftkit asks TRL asks; the rest is what opens an answer, or white space after the end of a turn."""
    ids, special = theirs["input_ids"], set(tokenizer.all_special_ids)
    asked = [[label != -100 for label in row["labels"][: len(ids)]] for row in (theirs, ours)]
    assert any(asked[1])
    opening = tokenizer.apply_chat_template(as_messages(dialogue[:-1]), tokenize=False, add_generation_prompt=True)
    place = 0
    while place < len(ids):
        assert asked[0][place] or not asked[1][place]
        end = place
        while end < len(ids) and asked[0][end] and not asked[1][end]:
            end += 1
        if end > place:
            text = tokenizer.decode(ids[place:end])
            after_an_end = not text.strip() and ids[place - 1] in special and asked[1][place - 1]
            assert after_an_end or opening.endswith(text), text
        place = max(end, place + 1)


@needs_trl
@OLD_NAME
def test_a_token_that_joins_prompt_and_completion_is_not_asked_where_trl_asks_it() -> None:
    """A model that is used reads the prompt's own tokens, and never writes a token that began in the prompt."""
    tokenizer: Any = load_tokenizer("train:300", texts=["abab abab abab cd"] * 50)
    tokenizer.eos_token = tokenizer.pad_token = tokenizer.eos_token or "<|endoftext|>"
    dialogue = (("user", "ab abab a"), ("assistant", "bab cd"))
    (ours,) = tokenize_examples([as_example(dialogue)], tokenizer)
    tokenizer.chat_template = None
    theirs = trl_labels(tokenizer, {"prompt": dialogue[0][1], "completion": dialogue[1][1]})
    assert ours["input_ids"] == theirs["input_ids"]
    differs = [n for n, (a, b) in enumerate(zip(ours["labels"], theirs["labels"], strict=True)) if a != b]
    assert len(differs) == 1
    assert ours["labels"][differs[0]] == -100
    assert tokenizer.decode([theirs["labels"][differs[0]]]).strip() == "abab"


if __name__ == "__main__":
    rows = ",\n".join(f'"{t}, {m}-only, {d}": {json.dumps(from_trl(t, m, d))}' for t, m, d in CASES)
    TABLE.write_text(f"{{\n{rows}\n}}\n", encoding="utf-8")
