"""Tuning on code, as users start it: what the run leaves, and that notebooks and adapters go through."""

import csv
import json
import re
from pathlib import Path

import pytest

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import find_config, load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.data import load_corpus, load_tokenizer, split_corpus, tokenize_texts
from ftkit.evidence import code_validity
from ftkit.jobs import CodeStudy

SMALL = {"max_steps": 6, "eval_steps": 3, "sample_steps": 3, "save_steps": 3, "num_passages": 30}


def run_recipe(folder: Path, config: str | None = None, **values: object) -> Path:
    module = load_recipe(find_recipe("code_completion"))
    settings_class = main_settings(module.main)
    flags = ["--fast", "--use_cpu", *(part for key, value in values.items() for part in (f"--{key}", str(value)))]
    flags += ["--config", str(find_config(config))] if config else []
    settings = resolve(settings_class, "code_completion", read_flags(settings_class, flags)).settings
    module.main(settings.model_copy(update={"output_dir": str(folder)}))
    return folder


def read(run: Path, name: str) -> dict:
    return json.loads((run / name).read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return run_recipe(tmp_path_factory.mktemp("runs") / "code", config="codegen_calculus", **SMALL)


def test_evidence_has_base_tuned_and_real_code_from_the_same_places(ran: Path) -> None:
    found = read(ran, "evidence.json")
    code, passages = found["code"], found["passages"]
    real = found["real"]["code"]
    assert len(real) == len(passages["code"]) == len(passages["base model"]) == code["samples"] == 30
    for who, samples in (("base", passages["base model"]), ("tuned", passages["code"]), ("real", real)):
        again = code_validity(samples)
        assert code["scores"][who]["parses"] == again.parses.as_dict()
        assert code["scores"][who]["well_formed"] == again.well_formed.as_dict()
    assert code["scores"]["real"]["parses"]["value"] > 0.4
    difference = code["scores"]["tuned"]["parses"]["value"] - code["scores"]["base"]["parses"]["value"]
    assert code["change"]["parses"]["value"] == pytest.approx(difference)
    [said] = [reason for reason in read(ran, "verdict.json")["code"]["reasons"] if "parses" in reason]
    assert f"{code['scores']['tuned']['parses']['value']:.1%}" in said
    assert f"{code['scores']['real']['parses']['value']:.1%}" in said
    assert found["metrics"]["code"]["parses"] == code["scores"]["tuned"]["parses"]
    assert all("\n" in sample for sample in real)
    whole = code["by_length"][-1]
    assert {who: whole[who] for who in ("base", "tuned", "real")} == {
        who: code["scores"][who]["parses"] for who in ("base", "tuned", "real")
    }
    assert code["prompted"]["prompt"] == "for i in range(10):"
    assert read(ran, "verdict.json")["code"]["verdict"] in ("unsure", "worked", "nothing")
    assert found["models"]["code"]["measures"]["copying"]["rate"]["value"] < 0.1


@pytest.mark.parametrize(
    ("low", "high", "said"),
    [(0.01, 0.2, "more often than before:"), (-0.1, 0.2, "no more often than before,"), (-0.2, -0.01, "less often")],
)
def test_the_verdict_says_whether_more_of_what_it_writes_parses(low: float, high: float, said: str) -> None:
    scores = {who: {"parses": {"value": 0.25}} for who in ("base", "tuned", "real")}
    change = {"parses": {"value": (low + high) / 2, "low": low, "high": high}}
    reason = CodeStudy.reason({"scores": scores, "change": change})
    assert f"parses {said}" in reason
    assert f"[{100 * low:+.1f}, {100 * high:+.1f}] points" in reason


def test_the_real_samples_are_held_out_and_the_variety_is_counted(ran: Path) -> None:
    evidence, corpus = read(ran, "evidence.json"), load_corpus("code:stdlib:120000")
    split = split_corpus(corpus, heldout_share=0.3)
    learned = "\n".join(split.train_documents)
    for sample in evidence["real"]["code"]:
        assert any(sample in document for document in split.heldout_documents)
        assert len(sample) < 40 or sample not in learned
    tokenizer = load_tokenizer(str(ran / "models" / "code"))
    store = tokenize_texts(list(split.train_documents), tokenizer)
    variety = evidence["code"]["variety"]
    assert (variety["tokens"], variety["distinct"]) == (store.num_tokens, store.num_unique)
    assert variety["passes"] == pytest.approx(read(ran, "manifest.json")["plan"]["code"]["passes"])


def test_fast_is_the_tiny_model_of_codegens_family_at_the_lessons_temperature(ran: Path) -> None:
    assert read(ran / "models" / "code", "config.json")["model_type"] == "codegen"
    samples = [json.loads(line) for line in (ran / "samples.jsonl").read_text(encoding="utf-8").splitlines()]
    assert {sample["step"] for sample in samples} == {0, 3, 6} or {sample["step"] for sample in samples} == {3, 6}
    assert {sample["sampling"]["temperature"] for sample in samples} == {1.4}


def test_the_report_has_a_section_of_code_with_its_figure(ran: Path) -> None:
    page = (ran / "report.html").read_text(encoding="utf-8")
    assert 'id="code-title"' in page
    assert "paired change" in page
    assert "for i in range(10):" in page
    with (ran / "figures" / "code_validity.csv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["source"] for row in rows} == {"base model", "tuned model", "real code"}
    parsed = read(ran, "evidence.json")["code"]["scores"]["real"]["parses"]["value"]
    assert [float(row["value"]) for row in rows if (row["source"], row["measure"]) == ("real code", "parses")] == [
        parsed
    ]
    assert re.search(r"<svg[^>]*aria-labelledby=\"code_validity-caption\"", page)


def test_notebooks_and_an_adapter_go_through_and_the_base_is_kept(tmp_path: Path) -> None:
    files = [*load_corpus("code:stdlib:120000").documents]
    for number, document in enumerate(files):
        cells = [{"cell_type": "code", "source": "%matplotlib inline"}, {"cell_type": "code", "source": document.text}]
        (tmp_path / f"{number}.ipynb").write_text(json.dumps({"nbformat": 4, "cells": cells}))
    run = run_recipe(
        tmp_path / "run", corpus=f"notebooks:{tmp_path}", peft="lora", prompt="", heldout_share=0.4, **SMALL
    )
    assert (run / "models" / "code" / "adapter_config.json").is_file()
    assert (run / "models" / "base" / "model.safetensors").is_file()
    assert "prompted" not in read(run, "evidence.json")["code"]
    removed = read(run, "manifest.json")["data"]["corpus"]["removed"]
    assert removed == [{"kind": "IPython magics", "characters": len(files) * len("%matplotlib inline")}]
