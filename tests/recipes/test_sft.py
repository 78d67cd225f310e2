"""Training on examples from a file to a verdict, in one process and by the command that judges other tools' models."""

import json
import os
from pathlib import Path
from typing import Any

import pytest
from processes import python
from recipe_runs import lines, read, run_recipe
from transformers import AutoModelForCausalLM, AutoTokenizer

import ftkit
from batteries.examples import _sides
from batteries.expected import cases_of
from ftkit.config import ExampleSettings
from ftkit.errors import ConfigError, DataError

CASE = cases_of("examples")["honest"]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("examples")
    for name, pairs in zip(("train", "heldout"), _sides(CASE, seed=1), strict=True):
        rows = "".join(json.dumps(pair) + "\n" for pair in pairs[:200])
        (folder / f"{name}.jsonl").write_text(rows, encoding="utf-8")
    return folder


@pytest.fixture(scope="module")
def tuned(files: Path, stories260k: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(
        "sft", tmp_path_factory.mktemp("runs") / "tuned", model=str(stories260k),
        examples=str(files / "train.jsonl"), heldout_examples=str(files / "heldout.jsonl"), max_steps=80,
        learning_rate=3e-3, per_device_train_batch_size=16, eval_steps=40, save_steps=0, num_answers=50, few_shot=2,
        answer_pattern="Here is the ([a-z ]+)", judge_style=True,
    )  # fmt: skip


def test_a_model_that_learned_to_answer_is_worked(tuned: Path) -> None:
    found = read(tuned, "verdict.json")["tuned"]
    assert (found["verdict"], found["rule"]) == ("worked", "gain")
    measures = read(tuned, "evidence.json")["models"]["tuned"]["measures"]
    assert measures["answers"]["tuned"]["exact"]["value"] > 0.9
    assert measures["answers"]["base"]["exact"]["value"] < 0.1
    assert measures["form"]["tuned_ended"]["value"] > 0.9
    assert measures["content"]["change"]["low"] > 0
    assert measures["few_shot"]["draws"] == 3
    (judge,) = measures["style"]["judges"]
    assert judge["position"]["value"] > 0.9 or not judge["speaks"]
    assert "ngrams" in read(tuned, "evidence.json")["judges"]
    assert "Style between base and real text" in (tuned / "report.html").read_text(encoding="utf-8")
    assert "language" not in {name for name, result in measures.items() if result}


def test_epochs_are_those_of_the_best_step_and_the_verdict_says_what_chose_it(
    files: Path, stories260k: Path, tmp_path: Path
) -> None:
    four = tmp_path / "four.jsonl"
    four.write_text("".join((files / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:4]))
    run = run_recipe(
        "sft", tmp_path / "run", model=str(stories260k), examples=str(four),
        heldout_examples=str(files / "heldout.jsonl"), max_steps=12, learning_rate=5e-3, eval_steps=3, save_steps=0,
        per_device_train_batch_size=4, num_answers=4, few_shot=0, load_best_model_at_end=True,
    )  # fmt: skip
    manifest = read(run, "manifest.json")
    best, plan = manifest["best"]["tuned"], manifest["plan"]["tuned"]
    assert 0 < best["saved_step"] < best["last_step"] == 12
    found = read(run, "evidence.json")["models"]["tuned"]
    assert found["passes"] == pytest.approx(plan["passes"] * best["saved_step"] / 12)
    chosen = f"step {best['saved_step']} of 12 was saved because its loss on this held-out text was the lowest"
    assert any(text.startswith(chosen) for text in read(run, "verdict.json")["tuned"]["reasons"])


def test_the_template_and_the_end_of_a_turn_are_saved_with_the_model(tuned: Path) -> None:
    folder = tuned / "models" / "tuned"
    tokenizer: Any = AutoTokenizer.from_pretrained(folder)
    prompt = tokenizer.apply_chat_template(
        [{"role": "user", "content": "Mia lost the old book at the farm."}], tokenize=False, add_generation_prompt=True
    )
    assert prompt == "<s>Mia lost the old book at the farm."
    model: Any = AutoModelForCausalLM.from_pretrained(folder)
    assert model.generation_config.eos_token_id == tokenizer.eos_token_id


def test_the_page_shows_examples_answers_and_no_raw_markup(tuned: Path) -> None:
    page = (tuned / "report.html").read_text(encoding="utf-8")
    assert "Real completion" in page
    assert "answers have the form of completions" in page
    assert "&lt;/s&gt;]]" in page  # what the model was shown, escaped
    assert [sample["step"] for sample in lines(tuned, "samples.jsonl")] == [0, 40, 80]


def test_examples_run_fast_and_offline_without_any_file(tmp_path: Path) -> None:
    run = run_recipe("sft", tmp_path / "run", model="new:gpt2", max_steps=4)
    assert read(run, "verdict.json")["tuned"]["verdict"] in ("unsure", "nothing", "worse", "broken")
    data = read(run, "manifest.json")["data"]["examples"]
    assert data["format"] == "prompt, completion"
    assert read(run, "manifest.json")["plan"]["tuned"]["filled_positions"] > 0.9


def test_halves_of_a_book_are_learned_in_form_and_not_worked(
    stories260k: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    books = Path(os.environ.get("FTKIT_BOOKS") or Path(__file__).resolve().parents[3] / "shared" / "data" / "books")
    if not books.is_dir():
        pytest.skip("set FTKIT_BOOKS to a folder with Project Gutenberg's 11-*.txt")
    monkeypatch.setenv("FTKIT_BOOKS", str(books))
    run = run_recipe(
        "sft", tmp_path / "alice", model=str(stories260k), examples="halves:gutenberg:11", max_steps=60,
        learning_rate=2e-3, per_device_train_batch_size=16, eval_steps=60, save_steps=0, num_answers=50, few_shot=0,
    )  # fmt: skip
    found, evidence = read(run, "verdict.json")["tuned"], read(run, "evidence.json")["models"]["tuned"]
    assert found["verdict"] == "unsure"  # 260,000 parameters learn the letters of the book
    assert evidence["heldout"]["gain"]["low"] > 0.5
    assert evidence["measures"]["answers"]["tuned"]["exact"]["value"] < 0.1


def test_columns_are_named_in_one_flag_or_in_several() -> None:
    for flags in (["prompt=a,completion=b"], ["prompt=a", "completion=b"]):
        columns = ExampleSettings(columns=dict(flag.split("=", 1) for flag in flags)).columns
        assert columns == {"prompt": "a", "completion": "b"}


def test_the_command_judges_a_run_from_its_folder(tuned: Path, files: Path, stories260k: Path) -> None:
    found = python(
        "-m", "ftkit", "verdict", "--base", str(stories260k), "--tuned", str(tuned), "--examples",
        str(files / "train.jsonl"), "--heldout-examples", str(files / "heldout.jsonl"), "--num-answers", "20",
        "--few-shot", "0", "--json",
    )  # fmt: skip
    said = json.loads(found.stdout[found.stdout.index("{") :])
    assert said["verdict"] in ("worked", "unsure")  # 20 answers may be too few to be sure of the form
    assert any("chat template: the tokenizer's own" in reason for reason in said["reasons"])
    assert said["evidence"]["measures"]["few_shot"]["why"]


def test_verdict_takes_rows_and_loaded_models(tuned: Path, files: Path, stories260k: Path) -> None:
    rows = [json.loads(line) for line in (files / "train.jsonl").read_text().splitlines()][:60]
    judged = ftkit.verdict(str(stories260k), str(tuned / "models" / "tuned"), examples=rows, num_answers=10, few_shot=0)
    assert judged.evidence.heldout.rows == "examples"
    assert judged.evidence.heldout.windows == 6
    assert judged.verdict.rule == "too_little"
    assert any("only 6 held-out examples, 20 are needed" in reason for reason in judged.verdict.reasons)


def test_what_cannot_be_judged_is_refused(files: Path, stories260k: Path) -> None:
    rows = [{"prompt": "a", "completion": "b"}]
    with pytest.raises(ConfigError, match="text and examples were given"):
        ftkit.verdict(str(stories260k), str(stories260k), "text.txt", examples=rows)
    with pytest.raises(ConfigError, match="none was given"):
        ftkit.verdict(str(stories260k), str(stories260k))
    with pytest.raises(ConfigError, match="unknown option 'anser_pattern'"):
        ftkit.verdict(str(stories260k), str(stories260k), examples=rows, anser_pattern="x")
    with pytest.raises(DataError, match=r"row 1: text .* has no user turn followed by an assistant turn"):
        ftkit.verdict(str(stories260k), str(stories260k), examples=[{"text": "all"}])
    with pytest.raises(ConfigError, match="no regular expression"):
        examples = [{"prompt": f"a{n}", "completion": "b"} for n in range(9)]
        ftkit.verdict(str(stories260k), str(stories260k), examples=examples, answer_pattern="(")
