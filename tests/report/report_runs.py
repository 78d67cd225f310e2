"""Synthetic run folders in the shapes that recipes write, from the real classes of evidence; nothing is trained."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from made_evidence import changed

from ftkit.data import load_tokenizer, tokenize_texts
from ftkit.evidence import (
    CopiedNgrams,
    Copying,
    Damage,
    Evidence,
    Fluency,
    Gate,
    HeldOut,
    Interval,
    StyleScore,
    WindowLosses,
    WordOrder,
    cross_comparison,
    decide,
)
from ftkit.evidence.interpolation import ScaledPoint
from ftkit.evidence.measures.fluency import ComparedFluency
from ftkit.evidence.measures.general import General
from ftkit.evidence.measures.integrity import Integrity
from ftkit.evidence.measures.style import Style
from ftkit.evidence.measures.training_text import TrainingText
from ftkit.evidence.measures.weights import MovedGroup, Weights
from ftkit.runs import RunFolder, write_evidence
from ftkit.runs.files import write_json

WORDS = """the lamp was lit before the fog came in and nobody on the quay had asked for it yet she went on counting the
bells as if a number could keep the harbour where it was however the letters arrived in the order of the tide and every
one of them began with the weather, which had not changed, and ended with a question"""


def prose(seed: int, words: int = 70) -> str:
    """Something that looks like a passage."""
    known = WORDS.split()
    drawn = np.random.default_rng(seed).integers(0, len(known), size=words)
    return " ".join(known[place] for place in drawn).capitalize() + "."


def around(value: float, half: float) -> Interval:
    """A value with a symmetric interval."""
    return Interval(value, value - half, value + half)


def style_score(judge: str, quality: float, **changes: Any) -> StyleScore:
    """What a judge says of a model that has gone ``quality`` of the way."""
    values: dict[str, Any] = {
        "judge": judge,
        "floor": around(0.04, 0.02),
        "score": around(0.04 + 0.92 * quality, 0.05),
        "ceiling": around(0.96, 0.015),
        "position": around(quality, 0.06),
        "accuracy": around(0.8, 0.08),
        "speaks": True,
        "reason": "AUC on held-out passages at least 0.982",
    }
    return StyleScore(**(values | changes))


def evidence_of(quality: float = 0.82, judges: Sequence[str] = ("encoder", "ngrams"), **changes: Any) -> Evidence:
    """Evidence of a model that has gone ``quality`` of the way from the base to real text."""
    parts = [f"layers.{n}.{part}" for n in range(12) for part in ("self_attn.q_proj", "mlp.up_proj")]
    tensors = [f"model.{part}.weight" for part in ("embed_tokens", "embed_positions", *parts, "norm")]
    moved = {name: 0.02 + 0.1 * quality * (1 + math.sin(place)) / 2 for place, name in enumerate(tensors)}
    groups = [
        MovedGroup(group, layer, 4096, 4096, 0.05 * quality + 0.004 * place, 1.0, 0.05 * quality + 0.004 * place)
        for place, (group, layer) in enumerate(
            [("embedding", None), *((g, n) for n in range(12) for g in ("attention.q", "mlp.in")), ("norm", None)]
        )
    ]
    scaled = tuple(
        ScaledPoint(scale, around(0.4 * quality * scale, 0.02), around(0.03 * scale**2, 0.004))
        for scale in (0.0, 0.5, 1.0)
    )
    damage = Damage(around(0.002, 0.01), around(0.03, 0.02), around(0.01, 0.02))
    measures = {
        "training_text": TrainingText(around(2.3, 0.04), around(2.25 - 0.4 * quality, 0.04), around(0.0517, 0.01), 6.4),
        "general": General(
            "moby", 0.0, True, around(2.4, 0.03), around(2.5, 0.03), around(0.031, 0.006), around(0.5 * quality, 0.04),
            around(0.1234, 0.01), around(0.31, 0.02), scaled,
        ),
        "style": Style(tuple(style_score(judge, quality) for judge in judges)),
        "discriminator": None,
        "copying": Copying(
            12,
            60.0,
            Interval(0.001, 0.0, 0.004),
            Interval(0.0, 0.0, 0.0),
            Interval(0.001, 0.0, 0.004),
            14,
            prose(5, 14),
            12,
            tuple(CopiedNgrams(n, *(around(0.02, 0.01) for _ in range(5))) for n in (8, 12)),
            (((4, 20), (30, 41)),),
            (((0, 9),),),
        ),
        "word_order": WordOrder(0.52, 0.41, around(0.79, 0.05)),
        "fluency": ComparedFluency(
            Fluency(0.021, (0.0, 0.09), 0.63, (0.5, 0.74), 0.04),
            Fluency(0.034, (0.0, 0.11), 0.6, (0.48, 0.71), 0.05),
            Fluency(0.032, (0.0, 0.05), 0.68, (0.55, 0.8), 0.03),
            damage,
        ),
        "integrity": Integrity(reload_difference=0.0),
        "weights": Weights(0.081, len(tensors), len(tensors), moved, tuple(groups)),
    }  # fmt: skip
    heldout = HeldOut(around(2.35, 0.04), around(2.35 - 0.4 * quality, 0.04), around(0.4 * quality, 0.03), 40)
    return changed(Evidence(heldout, measures, passes=6.4), changes)


def together(names: Sequence[str], cache: Path) -> dict[str, Any]:
    """What concerns all models of a run, of models that predict their own text better."""
    tokenizer = load_tokenizer("byte")

    def losses(seed: int, less: float) -> WindowLosses:
        nats = np.random.default_rng(seed).uniform(1, 5, size=(40, 63)) - less
        return WindowLosses(nats, np.full(nats.shape, 3))

    base = {name: losses(place, 0.0) for place, name in enumerate(names)}
    tuned = {
        model: {name: losses(place, 0.5 if name == model else 0.3) for place, name in enumerate(names)}
        for model in names
    }
    texts = {name: [prose(place), prose(place + 40)] for place, name in enumerate(names)}
    train = {name: tokenize_texts(pieces, tokenizer, cache=cache) for name, pieces in texts.items()}
    floors = {name: [prose(80), prose(81)] for name in names}
    return cross_comparison(base, tuned, train=train, floors=floors, passages=texts, real=texts, min_chars=1)


def training_records(model: str, steps: int, quality: float) -> list[dict[str, Any]]:
    """Noisy curves, evaluated and judged at twelve steps."""
    noise = np.random.default_rng(len(model)).normal(size=steps + 1)
    records: list[dict[str, Any]] = []
    for step in range(steps + 1):
        done, fall = step / steps, quality * (1 - math.exp(-4 * step / steps))
        rate = 5e-5 * min(20 * done, 0.5 + 0.5 * math.cos(math.pi * done))
        train = {
            "loss": 4.1 - fall + 0.12 * noise[step],
            "learning_rate": rate,
            "grad_norm": 1.1 + 0.3 * abs(noise[step]),
        }
        judged = {"encoder_probability": 0.05 + 0.9 * fall, "ngrams_probability": 0.04 + 0.8 * fall * done}
        if step:
            records.append({"model": model, "step": step, "split": "train", **train, "seconds": 0.31})
        if step % (steps // 12) == 0:
            records.append({"model": model, "step": step, "split": "heldout", "bits_per_byte": 2.35 - 0.4 * fall})
        if step and step % (steps // 12) == 0:
            records.append({"model": model, "step": step, "split": "judge", **judged})
    return records


EVIL = (
    "</script></style></textarea><script>window.owned=1</script><img src=x onerror=window.owned=2>"
    "\"' onload=window.owned=3"
)


def evil_run(path: Path) -> RunFolder:
    """A run whose texts, names and settings all try to become markup."""
    evidence = evidence_of(judges=(EVIL,), general__name=EVIL)
    run = write_run(path, {EVIL: evidence, "poe": evidence}, text=lambda n: f"{n} {EVIL}", settings={EVIL: EVIL})
    run.log("metrics.jsonl", {"model": EVIL, "step": 4, "split": "judge", f"{EVIL}_probability": 0.5})
    run.log("samples.jsonl", {"model": EVIL, "step": 999, "prompt": EVIL, "text": f"\x00\x1b{EVIL}"})
    return run


def empty_run(path: Path, data: dict[str, Any] | None = None) -> RunFolder:
    """A run that has only begun."""
    path.mkdir(parents=True, exist_ok=True)
    manifest = {
        "recipe": "imitate",
        "status": "running",
        "started": "2026-03-01T09:15:00+00:00",
        "versions": {"ftkit": "0.1.0", "torch": "2.13.0"},
        "machine": {"system": "Linux", "processor": "Test CPU", "cpus": 2, "host": "private"},
        "data": data or {},
        "phases": {},
    }
    write_json(path / "manifest.json", manifest)
    return RunFolder(path, "imitate", manifest, is_main=True)


def write_run(
    path: Path,
    evidence: dict[str, Evidence] | None = None,
    text: Callable[[int], str] = prose,
    steps: int = 48,
    settings: dict[str, Any] | None = None,
    judged: bool = True,
) -> RunFolder:
    """Write a run folder as the imitate recipe does, or as pretrain does where it is not ``judged``.

    Args:
        path: The folder.
        evidence: Evidence of each model; two models by default.
        text: Makes passages, from a number.
        steps: Length of the training; twelve steps are evaluated.
        settings: What ``config.yaml`` says beside a few defaults.
        judged: Whether the run has judges and real passages.
    """
    models = evidence or {"alice": evidence_of(), "poe": evidence_of(0.48, general__rise=around(0.09, 0.01))}
    text_of = {"source": "gutenberg:11", "sha256": "85664982973bfdd1" * 4, "words": 26443, "bytes": 144696}
    removed = [{"kind": "licence", "characters": 18841}]
    run = empty_run(path, {name: {**text_of, "removed": removed} for name in models})
    plan = {"parameters": 124439808, "trainable": 124439808, "steps": steps, "tokens": 4096 * steps, "passes": 6.4}
    run.update_manifest(
        plan={name: {**plan, "text_tokens": 38120, "device": "cpu", "precision": "float32"} for name in models}
    )
    values = {
        "recipe": "imitate",
        "seed": 42,
        "learning_rate": 5e-5,
        "general": {},
        "corpora": dict.fromkeys(models, "x"),
    }
    run.write_text("config.yaml", yaml.safe_dump(values | (settings or {}), sort_keys=False, allow_unicode=True))
    auc = {**dict.fromkeys(models, 0.991), "base model": 0.995}
    gate = vars(Gate(auc, dict.fromkeys(auc, 0.978), 0.94, dict.fromkeys(auc, 64), True, "AUC at least 0.991"))
    passages: dict[str, Any] = {"base model": [text(n) for n in range(6)]}
    passages |= {name: [text(n + 50) for n in range(6)] for name in models}
    measured: dict[str, Any] = {"models": {name: found.as_dict() for name, found in models.items()}, "judges": {}}
    if judged:
        measured |= {"judges": {"encoder": gate, "ngrams": gate}, "passages": passages}
        measured["real"] = {name: [text(n + 90) for n in range(6)] for name in models}
        measured |= together(list(models), path / "tokens")
    else:
        measured["passages"] = {name: {"base": [text(1), text(2)], "tuned": [text(3)]} for name in models}
    write_evidence(run, measured)
    run.write_json("verdict.json", {name: decide(found).as_dict() for name, found in models.items()})
    for place, name in enumerate(models):
        records = training_records(name, steps, 0.82 if place == 0 else 0.48)
        run.log("metrics.jsonl", *(record for record in records if judged or record["split"] != "judge"))
        for step in range(steps // 12, steps + 1, steps // 12):
            sample = {"model": name, "step": step, "prompt": "", "seed": 42, "sampling": {}}
            copied = {"copied": [[4, 20], [30, 41]]}
            run.log("samples.jsonl", *({**sample, **copied, "text": text(step + n)} for n in range(4)))
    return run
