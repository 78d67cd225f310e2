"""The commands that look into models, through the real command line."""

import csv
import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from transformers import GPT2Config, OPTConfig, OPTForCausalLM
from typer.testing import CliRunner, Result

from ftkit.cli import app
from ftkit.config import list_entries
from ftkit.data import load_tokenizer
from ftkit.models import load_model, save_model

LABORATORY = {"bias", "dialogue", "gradient_rules", "numerics"}


def ftkit(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(argument) for argument in arguments], catch_exceptions=False)


@pytest.fixture(scope="module")
def saved(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("inspect") / "model"
    save_model(load_model("new:ftkit_gpt2"), None, folder)
    return folder


def test_inspect_needs_no_weights(tmp_path):
    GPT2Config().save_pretrained(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["config.json"]
    shown = ftkit("inspect", tmp_path)
    assert shown.exit_code == 0
    for text in ("GPT2LMHeadModel", "124,439,808", "31.02 %", "transformer.wte.weight = lm_head.weight", "163,037,184"):
        assert text in shown.output


def test_inspect_as_json_is_one_object_with_the_promised_keys(saved):
    found = json.loads(ftkit("inspect", saved, "--train", "attention.q@1", "--train", "norm", "--json").output)
    assert found["total"] == 124_672 == sum(group["parameters"] for group in found["groups"].values())
    assert found["trainable"] == 64 * 64 + 64 + 10 * 64
    assert found["groups"]["attention.q"]["trainable"] == 64 * 64 + 64
    assert found["weights"] + found["biases_and_gains"] == found["total"]
    assert found["bytes"] == {"float32": 498_688, "bfloat16": 249_344}
    assert found["tied"] == [["model.embed_tokens.weight", "lm_head.weight"]]


def test_inspect_with_a_selector_that_matches_nothing_leaves_with_2(saved, capfd):
    assert ftkit("inspect", saved, "--freeze", "atention").exit_code == 2


def test_the_tree_shows_every_module(saved):
    shown = ftkit("inspect", saved, "--tree").output
    for name, _ in load_model(str(saved)).named_modules():
        assert f" {name.rpartition('.')[2]} " in shown
    assert "weight [64, 64]" in shown


def test_inspect_draws_the_weights(saved, tmp_path):
    shown = ftkit("inspect", saved, "--weights", tmp_path, "--groups", "attention.q,embedding")
    assert shown.exit_code == 0
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {
        f"{name}.{ending}"
        for name in ("weights", "histogram-attention.q", "histogram-embedding")
        for ending in ("csv", "svg", "png")
    }
    with (tmp_path / "weights.csv").open() as file:
        rows = list(csv.DictReader(file))
    std = float(load_model(str(saved)).model.layers[1].self_attn.q_proj.weight.detach().std())
    assert [float(row["std"]) for row in rows if row["layer"] == "1"] == [pytest.approx(std)]
    assert (tmp_path / "weights.png").read_bytes().startswith(b"\x89PNG")
    assert str(tmp_path / "histogram-embedding.csv") in shown.output


def test_an_adapter_is_shown_with_its_base(saved, tmp_path):
    from peft import LoraConfig, get_peft_model

    model = load_model(str(saved))
    with pytest.warns(FutureWarning):  # peft's use of transformers
        adapted = get_peft_model(model, LoraConfig(r=4, target_modules=["q_proj"], task_type="CAUSAL_LM"))
    adapted.save_pretrained(tmp_path / "adapter")
    found = json.loads(ftkit("inspect", tmp_path / "adapter", "--json").output)
    assert found["total"] == 124_672 + 2 * 2 * 4 * 64
    assert found["trainable"] == found["groups"]["adapter"]["parameters"] == 2 * 2 * 4 * 64
    config = tmp_path / "adapter" / "adapter_config.json"
    config.write_text(config.read_text().replace(str(saved), "./gone/away/far"))
    assert ftkit("inspect", tmp_path / "adapter").exit_code == 4


def test_diff_and_verify_agree_and_verify_leaves_with_4(saved, tmp_path):
    save_model(load_model("new:ftkit_gpt2", seed=1), None, tmp_path / "other")
    assert "\nidentical" in ftkit("diff", saved, saved).output
    assert "not identical" in ftkit("diff", saved, tmp_path / "other").output
    difference = json.loads(ftkit("diff", saved, tmp_path / "other", "--json").output)
    assert difference["relative"] > 0
    assert not difference["identical"]
    assert {group["name"] for group in difference["groups"] if group["identical"]} == {"norm"}
    same = ftkit("verify", saved, saved)
    assert (same.exit_code, "the same model" in same.output) == (0, True)
    other = ftkit("verify", saved, tmp_path / "other", "--json")
    assert other.exit_code == 4
    found = json.JSONDecoder().raw_decode(other.output)[0]
    assert not found["equal"]
    assert found["largest"] > 0
    assert found["logits_difference"] > 0
    assert ftkit("verify", saved, tmp_path / "other", "--tolerance", "100").exit_code == 0


def test_perturb_writes_its_curve_and_leaves_the_folder_alone(saved, tmp_path):
    text = tmp_path / "text.txt"
    text.write_text("The lamp was lit at dusk and the sea was calm. " * 40)
    before = (saved / "model.safetensors").read_bytes()
    arguments = ("perturb", saved, "--text", text, "--tokenizer", "byte", "--window-tokens", 32)
    assert ftkit(*arguments).exit_code == 4  # 257 ids, 256 rows
    shown = ftkit("perturb", "new:gpt2", "--text", text, "--window-tokens", 32, "--out", tmp_path / "curve", "--json")
    assert shown.exit_code == 0
    points = json.loads(shown.stdout)
    assert [point["blocks"] for point in points] == [0, 1, 2]
    with (tmp_path / "curve" / "damage.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert [float(row["value"]) for row in rows] == [point["value"] for point in points]
    assert "noise in attention.q" in (tmp_path / "curve" / "damage.svg").read_text()
    assert (saved / "model.safetensors").read_bytes() == before
    assert ftkit("perturb", "new:gpt2", "--text", text, "--kind", "nois").exit_code == 2


def test_help_of_all_commands_needs_no_torch():
    program = (
        "import sys, ftkit.cli\n"
        "try: ftkit.cli.app(['inspect', '--help'])\n"
        "except SystemExit: pass\n"
        "assert not {'torch', 'transformers', 'rich.table'} & set(sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, env=os.environ, check=False)
    assert done.returncode == 0, done.stderr


def test_list_shows_every_configuration_below_the_question_of_its_recipe():
    done = CliRunner().invoke(app, ["list"], terminal_width=200)
    assert done.exit_code == 0
    recipe, below = "", {}
    for line in done.output[done.output.index("\nExperiments: ") :].splitlines():
        if found := re.match(r"(\w+): [A-Z]", line):
            recipe = found[1]
        elif found := re.match(r" {2}(\w+) ", line):
            below[found[1]] = recipe
    entries = list_entries()
    assert below == {entry.name: entry.recipe for entry in entries if entry.kind == "config"}
    assert set(below.values()) <= {entry.name for entry in entries if entry.kind == "recipe"}


def test_list_shows_the_laboratory_under_its_own_heading_after_the_main_jobs():
    output = CliRunner().invoke(app, ["list"], terminal_width=200).output
    output = output[output.index("\nExperiments: ") :]
    heading, entries = output.index("\nThe laboratory: "), list_entries()
    assert {entry.name for entry in entries if entry.kind == "recipe" and entry.lab} == LABORATORY
    for entry in entries:
        mark = f"\n{entry.name}: " if entry.kind == "recipe" else f"\n  {entry.name} "
        assert (output.index(mark) > heading) == entry.lab, entry.name


def test_list_and_run_begin_with_the_main_jobs_a_line_each_and_what_they_need(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    listed, alone = ftkit("list"), ftkit("run")
    assert (listed.exit_code, alone.exit_code) == (0, 2)
    first = listed.output[: listed.output.index("\nExperiments: ")]
    assert alone.output.startswith(first.rstrip("\n"))
    recipes = {entry.name: entry for entry in list_entries() if entry.kind == "recipe" and not entry.lab}
    rows = {line.split()[0]: line for line in first.splitlines() if line.startswith("  ") and line[2] != " "}
    assert rows.keys() == recipes.keys() | {"demo"}
    for name, recipe in recipes.items():
        assert rows[name].split(name, 1)[1].strip().startswith(recipe.question)
        assert recipe.needs
        assert recipe.needs in rows[name]
    assert max(map(len, listed.output.splitlines())) <= 80
    assert list(rows)[:2] == ["demo", "finetune"]


def test_what_a_configuration_needs_follows_from_its_sources_and_those_of_its_base():
    needs = {entry.name: entry.needs for entry in list_entries()}
    assert needs["demo"] == "nothing"
    assert needs["gsm8k_smollm2"] == "download"
    assert needs["style_evolution"] == "GPU, download, books"
    assert needs["targeted_freeze_small"] == "books"
    assert needs["finetune"] == "a text"


@pytest.mark.parametrize("spec", ["new:gpt2,n_positions=48,n_layer=1", "new:ftkit_ladder,rung=3", "saved"])
def test_perturb_runs_on_its_own_defaults(tmp_path, spec):
    if spec == "saved":
        small = load_model("new:ftkit_gpt2,n_layer=1", vocab_size=257, max_positions=40)
        save_model(small, load_tokenizer("byte"), tmp_path / "model")
        spec = str(tmp_path / "model")
    shown = ftkit("perturb", spec, "--text", "voices:keeper:400", "--json")
    assert shown.exit_code == 0, shown.output
    points = json.loads(shown.output[shown.output.index("[") :])
    assert points[0]["rise_value"] == 0
    assert len(points) >= 2


def test_perturb_says_that_it_does_not_know_the_blocks(tmp_path):
    small = OPTForCausalLM(
        OPTConfig(
            vocab_size=257,
            hidden_size=16,
            num_hidden_layers=1,
            num_attention_heads=2,
            ffn_dim=16,
            max_position_embeddings=32,
            word_embed_proj_dim=16,
        )
    )
    save_model(small, load_tokenizer("byte"), tmp_path / "model")
    shown = ftkit("perturb", tmp_path / "model", "--text", "voices:keeper:400")
    assert shown.exit_code == 4
    assert "its blocks are unknown" in shown.output


@pytest.mark.parametrize("argument", ["--help", "-h"])
def test_run_explains_itself(argument):
    shown = ftkit("run", argument)
    assert shown.exit_code == 0
    for text in ("ftkit run NAME --help", "--sweep", "--fast", "ftkit list", "ftkit run finetune --corpus my_text.txt"):
        assert text in " ".join(shown.output.split())


@pytest.mark.parametrize(
    "arguments",
    [
        ("chat", "{model}"),
        ("convert", "{model}", "out", "--to", "gpt2"),
        ("inspect", "{model}"),
        ("perturb", "{model}", "--text", "voices:keeper:6000"),
        ("predict", "{model}", "a warm day"),
    ],
)
def test_a_revision_of_a_folder_is_refused_by_every_command(saved, arguments):
    refused = ftkit(*(word.format(model=saved) for word in arguments), "--revision", "main")
    assert (refused.exit_code, "--revision: has no effect on" in refused.output) == (2, True)
