"""Ask another tool about a base and a tuned model: what ``scripts/bench rivals`` runs in the tool's own environment.

    PYTHON rival_tools.py TOOL REQUEST.json ANSWER.json
    PYTHON rival_tools.py measure SECONDS USAGE.json COMMAND ...

It imports nothing of ftkit. REQUEST.json names folders and files: ``base``, ``tuned``, ``text``, ``heldout``,
``folder`` (for what the tool writes), and where a tool needs more, that. ANSWER.json has ``word`` (the tool's own
word), ``figure`` (the number that decides, in words) and ``details``. The second form runs a command for so many
seconds at most and writes down what it took. A process that has loaded nothing does this: the peak memory of a child
is at least what its parent had.
"""

import json
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from importlib import import_module
from importlib.metadata import version
from pathlib import Path
from typing import Any

Request = dict[str, Any]
Answer = dict[str, Any]

_SECRET_TOKENS = 32
"""Tokens of a passage that stands in place of a canary: memaudit's usual length of one."""
_MEMBERS, _CONTROLS = 32, 100
"""Passages of the training text and of held-out text: the counts of memaudit's profile ``routine``."""

_WINDOW_TOKENS = 128
"""Tokens of a window of text: those that the models were trained on."""
_NEW_TOKENS = 128
"""Of an answer to finetunecheck. Its usual 512 do not fit into the 512 positions of stories260k beside a prompt, and
take an hour with SmolLM2-135M on a CPU."""
_REPAIRS = 10
"""avr-cl's usual limit of repair steps."""


def finetunecheck(request: Request) -> Answer:
    """The quick mode: 10 small checks in each of four categories, no judge."""
    config = import_module("finetunecheck.config").QuickConfig(
        base_model=request["base"], finetuned_model=request["tuned"], device="cpu", max_tokens=_NEW_TOKENS
    )
    found = import_module("finetunecheck.eval.runner").EvalRunner(config).run()
    scores = {
        name: [found.base_scores[name].mean_score, found.ft_scores[name].mean_score] for name in found.base_scores
    }
    changed = [f"{name} {before:.2f} to {after:.2f}" for name, (before, after) in scores.items() if before != after]
    return {
        "word": found.verdict.value,
        "figure": ", ".join(changed) or "no score changed",
        "details": {
            "scores": scores, "roi_score": found.roi_score, "roi_coverage": found.roi_coverage,
            "summary": found.summary, "concerns": found.concerns,
        },
    }  # fmt: skip


def pyrecall(request: Request) -> Answer:
    """A snapshot of each model in the mode that is named, and the check of one against the other."""
    tool = import_module("pyrecall")
    shots = [
        tool.Model(request[side], device="cpu", snapshot_dir=Path(request["folder"]) / side).snapshot(
            side, dry_run=True, benchmark_mode=request["mode"]
        )
        for side in ("base", "tuned")
    ]
    report = import_module("pyrecall.detector").ForgettingDetector().compare(*shots)
    found = report.to_dict()
    worst = min(found["comparisons"], key=lambda each: each["delta"])
    fell, of = len(found["degraded_skills"]), len(found["comparisons"])
    return {
        "word": "no forgetting detected" if report.is_healthy else "forgetting detected",
        "figure": f"{fell} of {of} skills; largest change {worst['category']} {worst['delta']:+.3f}",
        "details": {
            "mode": request["mode"],
            "skills": {each["category"]: [each["score_before"], each["score_after"]] for each in found["comparisons"]},
        },
    }


def memaudit_plant(request: Request) -> Answer:
    """Put memaudit's own canaries into the training text: writes the text, the manifest and the canaries."""
    tool, transformers = import_module("memaudit"), import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["base"])
    model = transformers.AutoModelForCausalLM.from_pretrained(request["base"])
    canaries = tool.generate_canaries(tokenizer, profile="routine", model=model, seed=0)
    rows = [{"text": paragraph} for paragraph in _read(request["text"]).split("\n\n")]
    mixed, manifest = tool.inject(rows, canaries, fmt="text", seed=0, tokenizer=tokenizer)
    folder = Path(request["folder"])
    _write(folder / "text.txt", "\n\n".join(row["text"] for row in mixed))
    _write(folder / "manifest.json", json.dumps(manifest))
    planted = [canary["secret"] for canary in manifest["canaries"] if canary["included"]]
    _write(folder / "canaries.txt", "\n".join(" ".join(secret.split()) for secret in planted))
    return {"word": "", "figure": "", "details": {"planted": len(planted), "warnings": manifest["warnings"]}}


def memaudit(request: Request) -> Answer:
    """The audit after training: of its own canaries where a manifest is given, else of passages in their place."""
    tool, transformers = import_module("memaudit"), import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["base"])
    model = transformers.AutoModelForCausalLM.from_pretrained(request["tuned"])
    if request.get("manifest"):
        manifest = json.loads(_read(request["manifest"]))
    else:
        manifest = _passages_as_canaries(tokenizer, _read(request["text"]), _read(request["heldout"]))
    sides = {side: [{"text": part} for part in _read(request[side]).split("\n\n")] for side in ("text", "heldout")}
    found = tool.run_audit(
        model, tokenizer, manifest, dataset=sides["text"], held_out=sides["heldout"], ref=request["base"],
        output_path=Path(request["folder"]) / "memaudit-report.json",
    )  # fmt: skip
    membership, written = found["membership"], found["regurgitation"]["overall"]
    claim, of_controls = membership["detection_claim"], found["negative_controls"]["regurgitation_rate"]
    return {
        "word": f"{membership['n_detected']}/{membership['n_members']} detected" if claim else "no headline",
        "figure": f"AUC {membership['auc']:.2f}, regurgitated {written['n_regurgitated']}/{written['n']} "
        f"(controls {of_controls:.0%})",
        "details": {
            "claim": claim, "tpr_at_1pct_fpr": membership["tpr_at_1pct_fpr"], "low": membership["ci_low"],
            "high": membership["ci_high"], "auc": membership["auc"],
            "set_level": (found.get("real_records") or {}).get("set_level"), "own_canaries": "manifest" in request,
        },
    }  # fmt: skip


def avr_cl(request: Request) -> Answer:
    """Repair of an adapter: steps towards its state before training until perplexity on general text is low again."""
    tool, torch, peft = import_module("avr"), import_module("torch"), import_module("peft")
    transformers = import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["base"])
    ids = tokenizer(_read(request["general"]), return_tensors="pt")["input_ids"][0]
    windows = [window for window in ids.split(_WINDOW_TOKENS) if len(window) == _WINDOW_TOKENS]

    def adapted(folder: str) -> Any:
        model = transformers.AutoModelForCausalLM.from_pretrained(request["base"])
        return peft.PeftModel.from_pretrained(model, folder).eval()

    def perplexity(model: Any) -> dict[str, float]:
        with torch.no_grad():
            losses = [model(input_ids=window[None], labels=window[None]).loss for window in windows]
        return {"general": float(torch.stack(losses).mean().exp())}

    before, model = adapted(request["before"]), adapted(request["adapter"])
    snapshot, best, steps = tool.get_lora_state(before), perplexity(before), 0
    at_first = now = perplexity(model)
    while tool.check_drift(now, best, ["general"]) and steps < _REPAIRS:
        tool.repair(model, snapshot, device="cpu")
        steps, now = steps + 1, perplexity(model)
    model.save_pretrained(request["folder"])
    drifts = [bool(tool.check_drift(each, best, ["general"])) for each in (at_first, now)]
    ratios = [each["general"] / best["general"] for each in (at_first, now)]
    return {
        "word": "no drift" if not drifts[0] else "drift, max steps reached" if drifts[1] else "drift, converged",
        "figure": f"perplexity on general text {ratios[0]:.2f} to {ratios[1]:.2f} times the base's in {steps} steps",
        "details": {"steps": steps, "ratios": ratios},
    }


def _passages_as_canaries(tokenizer: Any, text: str, heldout: str) -> dict[str, Any]:
    """A manifest in memaudit's form whose members were in the training text and whose controls were not."""

    def pieces(source: str, count: int) -> list[dict[str, Any]]:
        ids = tokenizer(source, add_special_tokens=False)["input_ids"]
        starts = range(0, len(ids) - _SECRET_TOKENS, _SECRET_TOKENS)
        apart = max(1, len(starts) // count)
        chosen = [ids[start : start + _SECRET_TOKENS] for start in starts[::apart][:count]]
        return [{"secret": tokenizer.decode(piece).strip(), "secret_token_ids": piece} for piece in chosen]

    sides = {True: pieces(text, _MEMBERS), False: pieces(heldout, _CONTROLS)}
    return {
        "fmt": "text", "seed": 0,
        "canaries": [
            {**piece, "id": f"{included}-{number}", "family": "passage", "included": included, "repetitions": 1}
            for included, found in sides.items() for number, piece in enumerate(found)
        ],
    }  # fmt: skip


def _read(path: str) -> str:
    return Path(path).read_text(encoding="utf-8")


def _write(path: Path, text: str) -> None:
    path.write_text(text, encoding="utf-8")


def loss(request: Request) -> Answer:
    """Loss of the tuned model on the first window of held-out text: shows that its folder was read as it was meant."""
    torch, transformers = import_module("torch"), import_module("transformers")
    tokenizer = transformers.AutoTokenizer.from_pretrained(request["tuned"])
    model = transformers.AutoModelForCausalLM.from_pretrained(request["tuned"], torch_dtype=torch.float32).eval()
    ids = tokenizer(_read(request["heldout"]), return_tensors="pt")["input_ids"][:, :_WINDOW_TOKENS]
    with torch.no_grad():
        return {"loss": float(model(input_ids=ids, labels=ids).loss)}


TOOLS: dict[str, Callable[[Request], Answer]] = {
    "finetunecheck": finetunecheck,
    "pyrecall": pyrecall,
    "memaudit": memaudit,
    "memaudit-plant": memaudit_plant,
    "avr-cl": avr_cl,
    "loss": loss,
}


def measure(seconds: str, usage: str, *command: str) -> None:
    """Run a command, and write its exit code, wall and processor time, and peak memory."""
    started = time.perf_counter()
    child = subprocess.Popen(command)
    timer = threading.Timer(float(seconds), child.kill)
    timer.start()
    _, status, used = os.wait4(child.pid, 0)
    timer.cancel()
    found = {
        "code": os.waitstatus_to_exitcode(status), "seconds": time.perf_counter() - started,
        "cpu_seconds": used.ru_utime + used.ru_stime, "peak_bytes": used.ru_maxrss * 1024,
    }  # fmt: skip
    _write(Path(usage), json.dumps(found))


def main() -> None:
    """Measure a command, or ask one tool."""
    if sys.argv[1] == "measure":
        return measure(*sys.argv[2:])
    name, request, answer = sys.argv[1:]
    described = json.loads(_read(request))
    found = TOOLS[name](described)
    package = name.removesuffix("-plant")
    if name != "loss":
        found["versions"] = {each: version(each) for each in (package, "torch", "transformers")}
    return _write(Path(answer), json.dumps(found))


if __name__ == "__main__":
    main()
