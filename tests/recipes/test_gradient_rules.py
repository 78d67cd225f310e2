"""Five arms of a classifier: each has its rule and no other, all see the same batches, and the table adds up."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForSequenceClassification, AutoTokenizer, BertConfig, BertForSequenceClassification

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.errors import ConfigError
from ftkit.models import load_model
from ftkit.tuning import ParameterGroups, learning_rate_factor, select, trainable_selection

LIMIT, STEPS = 0.3, 9
SMALL = ["--fast", "--use_cpu", "--max_steps", str(STEPS), "--eval_steps", "3", "--max_grad_norm", str(LIMIT)]


def settings_of(*flags: str):
    settings_class = main_settings(load_recipe(find_recipe("gradient_rules")).main)
    return resolve(settings_class, "gradient_rules", read_flags(settings_class, flags)).settings


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs") / "rules"
    settings = settings_of(*SMALL, "--warmup_steps", "3", "--clip_after", "2")
    load_recipe(find_recipe("gradient_rules")).main(settings.model_copy(update={"output_dir": str(folder)}))
    return folder


def read(run: Path, name: str) -> dict:
    return json.loads((run / name).read_text(encoding="utf-8"))


def train_records(run: Path) -> dict[str, list[dict]]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()]
    found: dict[str, list[dict]] = {}
    for line in lines:
        if line["split"] == "train":
            found.setdefault(line["model"], []).append(line)
    return found


def test_arms_differ_by_their_rule_alone():
    arms = settings_of(*SMALL, "--clip_after", "2", "--schedule_steps", "20").arms()
    assert list(arms) == ["baseline", "freeze", "clip", "schedule", "all"]
    plain = arms["baseline"].model_dump()
    changed = {
        name: {key for key, value in arm.model_dump().items() if value != plain[key]} for name, arm in arms.items()
    }
    assert changed["freeze"] == {"freeze"}
    assert changed["clip"] == {"max_grad_norm", "clip_after"}
    assert changed["schedule"] == {"lr_scheduler_type", "warmup_steps", "schedule_steps"}
    assert changed["all"] == changed["freeze"] | changed["clip"] | changed["schedule"]
    assert (plain["freeze"], plain["max_grad_norm"], plain["lr_scheduler_type"]) == (None, 0, "constant")


def test_all_arms_start_from_one_model_and_see_the_same_batches(run):
    records = train_records(run)
    assert {name: len(found) for name, found in records.items()} == dict.fromkeys(records, STEPS)
    assert len(records) == 5
    assert len({found[0]["loss"] for found in records.values()}) == 1
    assert records["baseline"][1]["loss"] != records["schedule"][1]["loss"]


def test_clipping_cuts_the_global_norm_from_its_step_on(run):
    records = train_records(run)
    for name in ("clip", "all"):
        over = [r for r in records[name][2:] if r["grad_norm"] > LIMIT]
        assert over
        for record in over:
            assert record["clip_factor"] == pytest.approx(LIMIT / record["grad_norm"], rel=1e-4)
            assert record["lost_norm"] == pytest.approx(record["grad_norm"] - LIMIT, rel=1e-3)
    untouched = [*records["baseline"], *records["freeze"], *records["schedule"], *records["clip"][:2]]
    assert all(r["clip_factor"] == 1 and r["lost_norm"] == 0 for r in untouched)
    rows = read(run, "evidence.json")["arms"]
    share = sum(r["clip_factor"] < 1 for r in records["clip"]) / STEPS
    assert rows["clip"]["steps clipped"]["text"].startswith(f"{100 * share:.1f}")
    assert rows["baseline"]["steps clipped"]["value"] == 0


def test_the_schedule_is_followed_by_its_arms_alone(run):
    records, settings = train_records(run), settings_of(*SMALL, "--warmup_steps", "3")
    rates = {name: [r["learning_rate"] for r in found] for name, found in records.items()}
    assert rates["baseline"] == rates["freeze"] == rates["clip"] == [1e-3] * STEPS
    assert rates["schedule"] == rates["all"]
    assert rates["schedule"] == pytest.approx([1e-3 * learning_rate_factor(n, settings) for n in range(1, STEPS + 1)])
    assert rates["schedule"][0] == pytest.approx(1e-3 / 3)  # the update comes before the next rate (trap X21)


def test_what_is_frozen_keeps_its_bits(run):
    start = {
        name: tensor.clone() for name, tensor in load_file(run / "models" / "baseline" / "model.safetensors").items()
    }
    tuned = {name: load_file(run / "models" / name / "model.safetensors") for name in ("freeze", "all")}
    settings = settings_of(*SMALL)
    fresh = load_model(
        settings.model, task="sequence-classification", seed=settings.seed, vocab_size=len(
            AutoTokenizer.from_pretrained(run / "models" / "freeze")
        ), max_positions=settings.window_tokens, labels=["keeper", "almanac"],
    )  # fmt: skip
    frozen = select(ParameterGroups(fresh), "attention,embedding,position").masks
    assert len(frozen) > 15
    for name, parameter in fresh.named_parameters():
        for tensors in tuned.values():
            assert torch.equal(tensors[name], parameter) == (name in frozen), name
        assert not torch.equal(start[name], parameter), name
    evidence = read(run, "evidence.json")["classifiers"]
    total = sum(parameter.numel() for parameter in fresh.parameters())
    assert evidence["freeze"]["frozen"] == sum(dict(fresh.named_parameters())[name].numel() for name in frozen) < total
    assert evidence["freeze"]["leaks"] == []


def test_the_test_is_large_stratified_and_beside_chance(run):
    evidence, data = read(run, "evidence.json"), read(run, "manifest.json")["data"]
    assert list(evidence["classifiers"]) == ["untrained", "baseline", "freeze", "clip", "schedule", "all"]
    counts = data["test"]["classes"]
    assert data["train"]["classes"]["keeper"] > 3 * counts["keeper"]
    for scores in evidence["classifiers"].values():
        assert [sum(row) for row in scores["confusion"]] == list(counts.values())
        assert scores["chance_accuracy"] == max(counts.values()) / sum(counts.values())
    assert not evidence["classifiers"]["untrained"]["above_chance"]
    assert evidence["finding"].startswith("Against the baseline")
    assert evidence["differences"].keys() == {"freeze", "clip", "schedule", "all"}


def test_a_saved_arm_knows_its_classes_by_name(run):
    model = AutoModelForSequenceClassification.from_pretrained(run / "models" / "all")
    assert model.config.id2label == {0: "keeper", 1: "almanac"}
    assert model.config.label2id == {"keeper": 0, "almanac": 1}


def test_the_report_shows_panels_tables_and_the_finding(run):
    drawn = {path.stem for path in (run / "figures").glob("*.svg")}
    arms = ("baseline", "freeze", "clip", "schedule", "all")
    assert {f"learning_{what}-{arm}" for what in ("loss", "accuracy") for arm in arms} <= drawn
    assert {"norm-global", "norm-mlp-out-1", "norm-classifier", "learning_rate", "test_accuracy"} <= drawn
    head = (run / "figures" / "norm-classifier.csv").read_text(encoding="utf-8").splitlines()[1]
    assert head.endswith(f",{LIMIT}")
    page = (run / "report.html").read_text(encoding="utf-8")
    for said in (
        'id="classes"',
        'id="comparison"',
        "Against the baseline",
        "Confidence minus accuracy",
        "nats per text",
    ):
        assert said in page, said
    assert "nats per token" not in page
    assert "bits per byte" not in page.lower()


def test_berts_counts_are_those_of_the_lesson():
    """Lesson 07/016: 52,204,032 of 109,483,778 are frozen by the names ``attention`` and ``embeddings``."""
    with torch.device("meta"):
        model = BertForSequenceClassification(BertConfig())
    groups = ParameterGroups(model)

    def frozen(selectors: list[str]) -> int:
        left = trainable_selection(groups, None, selectors)
        return sum(piece.numel - left.numel(piece) for piece in groups.pieces)

    assert sum(piece.numel for piece in groups.pieces) == 109_483_778
    assert frozen(["name:attention", "name:embeddings"]) == 52_204_032
    # Selectors by meaning leave out the norms, which those names contain: one in each block and one below.
    assert frozen(["attention,embedding,position"]) == 52_204_032 - 13 * 2 * 768


def test_the_lessons_schedule_peaks_at_step_15_and_ends_at_a_third():
    """Lesson 07/019: warm-up 5 % of 300 steps, laid out for 450; 34.5 % of the peak is left after step 300."""
    settings = settings_of(
        "--tokenizer", "byte", "--labelled", "x.csv", "--max_steps", "300", "--warmup_steps", "0.05",
        "--schedule_steps", "450",
    )  # fmt: skip
    factors = [learning_rate_factor(step, settings) for step in range(1, 302)]
    assert factors.index(max(factors)) == 14
    assert factors[300] == pytest.approx(0.345, abs=5e-4)  # what a 301st update would use


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--labelled", "x.csv", "--freeze", "none"], "freeze: is missing: without it the arm freeze"),
        (["--labelled", "x.csv", "--max_grad_norm", "0"], "max_grad_norm: is missing: without it the arm clip"),
        (
            ["--labelled", "x.csv", "--lr_scheduler_type", "constant", "--warmup_steps", "0"],
            "lr_scheduler_type: is missing: without it the arm schedule",
        ),
        ([], "and classes are both missing"),
        (["--labelled", "x.csv", "--classes", "a=b.txt", "--classes", "b=c.txt"], "and classes are both given"),
        (["--classes", "a=b.txt"], "classes: needs two or more"),
        (["--labelled", "x.csv", "--split", "head"], "split: has no effect"),
        (["--labelled", "x.csv", "--labelled_test", "y.csv", "--heldout_share", "0.3"], "heldout_share: has no effect"),
    ],
)
def test_settings_that_cannot_mean_what_they_say_are_refused(flags, said):
    with pytest.raises(ConfigError) as error:
        settings_of("--tokenizer", "byte", *flags)
    assert said in str(error.value)
