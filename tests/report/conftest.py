"""Synthetic run folders: the shapes that recipes write, without training anything."""

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from ftkit.evidence import Copying, Evidence, Fluency, Interval, StyleScore, Thresholds, Verdict
from ftkit.runs import RunFolder
from ftkit.tuning import Movement

WORDS = (
    "the lamp was lit before the fog came in and nobody on the quay had asked for it yet she went on counting the "
    "bells as if a number could keep the harbour where it was quietly however the letters arrived in the order of "
    "the tide and every one of them began with the weather, which had not changed, and ended with a question; "
).split()


def prose(seed: int, words: int = 70) -> str:
    """Something that looks like a passage."""
    drawn = np.random.default_rng(seed).integers(0, len(WORDS), size=words)
    return " ".join(WORDS[place] for place in drawn).capitalize() + "."


def _around(value: float, half: float) -> Interval:
    return Interval(value, value - half, value + half)


def example_evidence(quality: float = 1.0, judges: tuple[str, ...] = ("encoder", "ngrams"), **changes: Any) -> Evidence:
    """Evidence of a run that went well (1) or less well."""
    floor, ceiling = _around(0.04, 0.02), _around(0.96, 0.015)
    score = _around(0.04 + 0.75 * quality, 0.05)
    tensors = ["model.embed_tokens.weight", "model.embed_positions.weight"]
    tensors += [f"model.layers.{n}.{part}.weight" for n in range(12) for part in ("self_attn.q_proj", "mlp.up_proj")]
    tensors.append("model.norm.weight")
    moved = {name: 0.02 + 0.1 * quality * (1 + math.sin(place)) / 2 for place, name in enumerate(tensors)}
    values: dict[str, Any] = {
        "heldout_base": _around(2.35, 0.04),
        "heldout_tuned": _around(2.35 - 0.34 * quality, 0.04),
        "gain": _around(0.34 * quality, 0.03),
        "general_name": "moby",
        "general_rise": _around(0.031, 0.006),
        "gain_over_general": _around(0.41 * quality, 0.04),
        "styles": tuple(
            StyleScore(
                name,
                floor,
                score,
                ceiling,
                _around(0.815 * quality, 0.06),
                _around(0.8, 0.08),
                True,
                "AUC on held-out passages at least 0.982",
            )
            for name in judges
        ),
        "copying": Copying(
            12,
            Interval(0.001, 0.0, 0.004),
            Interval(0.0004, 0.0, 0.001),
            Interval(0.0006, -0.001, 0.004),
            14,
            prose(5, 14),
            12,
        ),
        "fluency_base": Fluency(0.021, (0.0, 0.09), 0.63, (0.5, 0.74), 0.04),
        "fluency_tuned": Fluency(0.034, (0.0, 0.11), 0.6, (0.48, 0.71), 0.05),
        "fluency_real": Fluency(0.012, (0.0, 0.05), 0.68, (0.55, 0.8), 0.03),
        "movement": Movement(0.081, len(tensors), len(tensors), moved),
        "reload_difference": 0.0,
        "passes": 6.4,
    }
    return Evidence(**(values | changes))


def _gate() -> dict[str, Any]:
    return {
        "auc": {"alice": 0.991, "poe": 0.987, "base model": 0.995, "other": 0.97},
        "auc_names_masked": {"alice": 0.978, "poe": 0.981, "base model": 0.994, "other": 0.96},
        "accuracy": 0.94,
        "passages": {"alice": 64, "poe": 71, "base model": 96, "other": 120},
        "speaks": True,
        "reason": "AUC on held-out passages at least 0.987",
    }


def training_records(model: str, steps: int, quality: float) -> list[dict[str, Any]]:
    """Noisy curves; every tenth of the run is evaluated."""
    noise = np.random.default_rng(len(model)).normal(size=steps + 1)
    records: list[dict[str, Any]] = []
    for step in range(steps + 1):
        done = step / steps
        fall = quality * (1 - math.exp(-4 * done))
        if step:
            records.append(
                {
                    "model": model, "step": step, "split": "train", "loss": 4.1 - 0.8 * fall + 0.12 * noise[step],
                    "learning_rate": 5e-5 * min(step / (0.05 * steps), 0.5 + 0.5 * math.cos(math.pi * done)),
                    "grad_norm": 1.1 + 0.3 * abs(noise[step]), "num_targets": 4080, "seconds": 0.31,
                }
            )  # fmt: skip
        if step % (steps // 12) == 0:
            records.append(
                {
                    "model": model,
                    "step": step,
                    "split": "heldout",
                    "loss": 4.0 - 0.6 * fall,
                    "bits_per_byte": 2.35 - 0.34 * fall,
                }
            )
        if step and step % (steps // 12) == 0:
            records.append(
                {
                    "model": model,
                    "step": step,
                    "split": "judge",
                    "encoder_probability": 0.05 + 0.75 * fall,
                    "ngrams_probability": 0.04 + 0.7 * fall * done,
                }
            )
    return records


MakeRun = Callable[..., RunFolder]


def write_run(
    path: Path,
    verdicts: dict[str, Verdict] | None = None,
    evidence: dict[str, Evidence] | None = None,
    text: Callable[[int], str] = prose,
    steps: int = 240,
    settings: dict[str, Any] | None = None,
    data: dict[str, Any] | None = None,
    plain: bool = False,
) -> RunFolder:
    """Write a run folder as the imitate recipe does, or as pretrain does (``plain``)."""
    path.mkdir(parents=True, exist_ok=True)
    evidence = evidence or {"alice": example_evidence(), "poe": example_evidence(0.55)}
    limits = {name: getattr(Thresholds(), name) for name in Thresholds.__dataclass_fields__}
    verdicts = verdicts or {
        name: Verdict(
            "worked" if place == 0 else "unsure",
            [] if place == 0 else ["forgot"],
            ["held-out text costs less", prose(9, 30)],
            limits,
        )
        for place, name in enumerate(evidence)
    }
    if plain:
        measured: dict[str, Any] = {
            "judges": {},
            "passages": {name: {"base": [text(1), text(2)], "tuned": [text(3)]} for name in evidence},
        }
    else:
        measured = {
            "judges": {"encoder": _gate(), "ngrams": _gate()},
            "passages": {
                "base model": [text(n) for n in range(6)],
                **{name: [text(n + 50) for n in range(6)] for name in evidence},
            },
            "real": {name: [text(n + 90) for n in range(6)] for name in evidence},
        }
    measured["models"] = {name: found.as_dict() for name, found in evidence.items()}
    corpora = {name: f"gutenberg:{n + 11}" for n, name in enumerate(evidence)}
    settings = {
        "recipe": "imitate",
        "seed": 42,
        "max_steps": steps,
        "learning_rate": 5e-5,
        "general": {},
        "corpora": corpora,
    } | (settings or {})
    data = data or {
        name: {"source": f"gutenberg:{n + 11}", "sha256": "85664982973bfdd1" * 4, "words": 26443, "bytes": 144696,
               "removed": [{"kind": "Gutenberg licence", "characters": 18841}]} for n, name in enumerate(evidence)
    }  # fmt: skip
    plan = {name: {"parameters": 124439808, "trainable": 124439808, "text_tokens": 38120, "step_tokens": 4096, "steps": steps, "tokens": 4096 * steps,
                   "passes": 6.4, "device": "cpu", "precision": "float32", "processes": 1, "threads": 2} for name in evidence}  # fmt: skip
    manifest = {
        "recipe": "imitate", "status": "running", "exit_code": None, "started": "2026-03-01T09:15:00+00:00", "ended": None,
        "versions": {"ftkit": "0.1.0", "python": "3.11.7", "torch": "2.13.0"}, "machine": {"system": "Linux", "processor": "Test CPU", "cpus": 2, "host": "h"},
        "argv": ["ftkit", "run", "imitate"], "data": data, "phases": {}, "seed": 42, "plan": plan,
    }  # fmt: skip
    run = RunFolder(path, "imitate", manifest, is_main=True)
    run._write_manifest()
    run.write_text("config.yaml", yaml.safe_dump(settings, sort_keys=False, allow_unicode=True))
    run.write_json("evidence.json", measured)
    run.write_json("verdict.json", {name: verdict.as_dict() for name, verdict in verdicts.items()})
    for place, name in enumerate(evidence):
        run.log("metrics.jsonl", *training_records(name, steps, 1 - 0.4 * place))
        for step in range(steps // 12, steps + 1, steps // 12):
            run.log(
                "samples.jsonl",
                *({"model": name, "step": step, "seed": 42, "sampling": {}, "text": text(step + n)} for n in range(4)),
            )
    return run


@pytest.fixture
def make_run(tmp_path: Path) -> MakeRun:
    """``write_run`` into a fresh folder."""

    def make(**choices: Any) -> RunFolder:
        return write_run(tmp_path / "run", **choices)

    return make


def as_json(path: Path) -> Any:
    """A JSON file's value."""
    return json.loads(path.read_text(encoding="utf-8"))
