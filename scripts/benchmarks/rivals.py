"""Other tools beside ``ftkit verdict`` on planted models: the tables of docs/rivals.md.

    scripts/bench rivals [--base stories260k] [--tools NAME ...] [--cases NAME ...] --work FOLDER --json FILE
    scripts/bench rivals --table --json FILE

FTKIT_STORIES260K (or FTKIT_SMOLLM2) and FTKIT_BOOKS name the base and the books, as for ``scripts/battery``. Each tool
is installed from the package index into an environment of its own and kept in ``--environments``, by default in ftkit's
cache. What FILE holds is not asked again.
"""

import argparse
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from batteries.expected import Case, cases_of
from batteries.pretrained import Bench, bench_of, missing_inputs
from batteries.tuning import make_folder
from benchmarks import rival_tools
from ftkit.data import cache_dir, load_tokenizer
from ftkit.display.wording import interval, percent_interval
from ftkit.evidence import Interval
from ftkit.models import load_model, save_model
from ftkit.runs.files import write_json

__all__ = ["CASES", "TOOLS", "Rival", "main", "make_readable", "table"]

ROOT = Path(__file__).resolve().parents[2]
Row = dict[str, Any]
CASES = {
    "stories260k": {
        "untouched": "untouched", "honest": "honest stories", "memorized": "excerpt memorized",
        "shuffled words": "words shuffled", "noised weights": "noise", "wrong book": "wrong text",
        "forgotten": "honest Alice", "canaries": "honest stories",
    },
    "smollm2": {
        "untouched": "untouched", "honest": "honest Alice", "memorized": "excerpt memorized",
        "shuffled words": "words shuffled", "noised weights": "noise", "wrong book": "wrong book",
        "forgotten": "honest Alice",
    },
}  # fmt: skip
"""Names in the table, and the cases of the batteries. The model of ``forgotten`` is an adapter here, since avr-cl mends
adapters alone; in the text of ``canaries`` stand those that memaudit made."""
_FORGETFUL = {"stories260k": (16, 1e-2), "smollm2": (8, 1e-2)}
"""Rank and rate of that adapter: those of the battery's honest adapter, and 50 times the rate of SmolLM2's honest one,
at which it surely forgets and still gains."""
_ALPHAS = {"stories260k": ",".join(f"{tenth / 10:g}" for tenth in range(11)), "smollm2": "0,0.25,0.5,0.75,1"}
"""Points of ``ftkit blend``: tenths, and quarters where each takes a minute and more."""
_ALL_WINDOWS = "100000"
_LIMIT = 1800
"""Seconds after which a tool is stopped."""
_TOLERANCE = 1e-3
"""Nats per token by which the loss in a tool's environment may differ from that in this one."""


@dataclass(frozen=True)
class Rival:
    """A tool on the package index."""

    name: str
    requirement: str

    def python(self, environments: Path) -> Path:
        """Python of the tool's environment, which is made where it is not there.

        Raises:
            subprocess.CalledProcessError: It cannot be installed.
        """
        folder = environments / self.name
        python, complete = folder / "bin" / "python", folder / "complete.txt"
        if complete.is_file() and complete.read_text(encoding="utf-8") == self.requirement:
            return python
        subprocess.run([sys.executable, "-m", "venv", "--clear", str(folder)], check=True)
        torch = f"torch=={version('torch').partition('+')[0]}"
        limits = folder / "constraints.txt"
        limits.write_text(torch + "\n", encoding="utf-8")
        for wanted in ([torch], ["-c", str(limits), self.requirement]):
            subprocess.run([str(python), "-m", "pip", "install", "--quiet", *wanted], check=True)
        complete.write_text(self.requirement, encoding="utf-8")
        return python


TOOLS: dict[str, Rival | None] = {
    "ftkit": None,
    "finetunecheck": Rival("finetunecheck", "finetunecheck[inference]==2.0.2"),
    "pyrecall": Rival("pyrecall", "pyrecall==0.12.1"),
    "memaudit": Rival("memaudit", "memaudit==0.2.0"),
    "avr-cl": Rival("avr-cl", "avr-cl==0.1.0"),
}
"""By name; ftkit has this environment."""


def make_readable(model: Path, base: Path, folder: Path) -> Path:
    """Write a model as transformers 4 and 5 read it: whole, float32, with the names of both in its configuration.

    Args:
        model: A folder of a whole model or an adapter.
        base: The base, whose tokenizer is written too.
        folder: Where; what is there already is kept.
    """
    if folder.exists():
        return folder
    loaded: Any = load_model(str(model), adapter_base=str(base))
    if hasattr(loaded, "merge_and_unload"):
        loaded = loaded.merge_and_unload()
    unfinished = folder.with_name(f"{folder.name}.unfinished")
    save_model(loaded, load_tokenizer(str(base)), unfinished)
    for name, change in (("config.json", _older_config), ("tokenizer_config.json", _older_tokenizer)):
        path = unfinished / name
        write_json(path, change(json.loads(path.read_text(encoding="utf-8"))))
    unfinished.rename(folder)
    return folder


def _older_config(config: dict[str, Any]) -> dict[str, Any]:
    """With the keys of transformers 4 beside those of 5."""
    rope = config.get("rope_parameters") or {}
    older = {"rope_theta": rope["rope_theta"]} if "rope_theta" in rope else {}
    if rope.get("rope_type", "default") != "default":
        older["rope_scaling"] = rope
    return {**config, "torch_dtype": config.get("dtype", "float32"), **older}


def _older_tokenizer(config: dict[str, Any]) -> dict[str, Any]:
    """With a class that both versions have, and without the segment ids that this class gives in version 4."""
    kept = {key: value for key, value in config.items() if key not in ("backend", "is_local", "local_files_only")}
    names = ["input_ids", "attention_mask"]
    return {**kept, "tokenizer_class": "PreTrainedTokenizerFast", "model_input_names": names}


@dataclass(frozen=True)
class Asking:
    """Folders, texts and environments of one base."""

    bench: Bench
    environments: Path

    @property
    def folder(self) -> Path:
        """Where requests, answers, and models that all tools read are kept."""
        return self.bench.folder / "rivals"

    @cached_property
    def base(self) -> Path:
        """The base in the form that all read."""
        return make_readable(self.bench.base, self.bench.base, self.folder / "models" / "base")

    def case(self, name: str) -> Case:
        """The battery's case, with what differs here."""
        case = cases_of(self.bench.name)[CASES[self.bench.name][name]]
        if name != "forgotten":
            return case
        rank, rate = _FORGETFUL[self.bench.name]
        return replace(case, name=f"{case.name}, LoRA {rate:g}", lora_rank=rank, learning_rate=rate)

    def planted(self) -> Path:
        """Folder with a text in which memaudit's canaries stand, and the manifest."""
        folder = self.folder / "canaries"
        if not (folder / "canaries.txt").exists():
            folder.mkdir(parents=True, exist_ok=True)
            text = self.bench.texts / "harbor-train.txt"
            found = self.ask("memaudit-plant", {"base": str(self.base), "text": str(text)}, folder)
            if "cannot" in found:
                raise RuntimeError(found["cannot"])
        return folder

    def tuned(self, name: str) -> Path:
        """The case's model as it was saved."""
        if name != "canaries":
            return self.bench.model(self.bench.name, self.case(name), 0)
        folder, text = self.planted() / "model", (self.planted() / "text.txt").read_text(encoding="utf-8")
        if not folder.exists():
            make_folder(str(self.bench.base), text, self.bench.loop_of(self.case(name), 0), folder)
        return folder

    def request(self, name: str) -> dict[str, str]:
        """What each tool is given."""
        asked = self.bench.request(self.bench.name, replace(self.case(name), name="untouched"), 0)
        tuned = make_readable(self.tuned(name), self.bench.base, self.folder / "models" / name.replace(" ", "-"))
        texts = {"text": str(asked.text), "heldout": str(asked.heldout), "general": str(asked.general)}
        if name == "canaries":
            texts |= {"text": str(self.planted() / "text.txt"), "manifest": str(self.planted() / "manifest.json")}
        return {"base": str(self.base), "tuned": str(tuned), **texts}

    def misread(self, tool: str, request: dict[str, str]) -> str:
        """Why a tool's environment reads the form of the folders otherwise than this one; looked at once for a base."""
        folder = self.folder / f"loss-in-{tool}"
        if (folder / "agreed.json").exists():
            return ""
        found = self.ask(tool, {**request, "tool": "loss"}, folder)
        if "cannot" in found:
            return str(found["cannot"])
        own = rival_tools.loss(request)["loss"]
        if abs(found["loss"] - own) >= _TOLERANCE:
            return f"loss {found['loss']:.4f} there, {own:.4f} here"
        write_json(folder / "agreed.json", {"there": found["loss"], "here": own})
        return ""

    def ask(self, tool: str, request: dict[str, Any], folder: Path) -> Row:
        """Run a tool in a process of its own; a row with what it says and took, or with the reason why it cannot."""
        rival = TOOLS[tool.removesuffix("-plant")]
        assert rival is not None
        folder.mkdir(parents=True, exist_ok=True)
        try:
            python = rival.python(self.environments)
        except (OSError, subprocess.CalledProcessError) as error:
            return {"cannot": f"it could not be installed: {error}"}
        write_json(folder / "request.json", {**request, "folder": str(folder)})
        program = Path(__file__).with_name("rival_tools.py")
        answer = folder / "answer.json"
        answer.unlink(missing_ok=True)
        command = [str(python), str(program), request.get("tool", tool), str(folder / "request.json"), str(answer)]
        usage = measured(command, folder)
        if usage["code"] or not answer.exists():
            return {"cannot": reason(folder / "log.txt", usage), **usage}
        finite = json.loads(answer.read_text(encoding="utf-8"), parse_constant=lambda _: None)
        return {**finite, **usage}


def measured(command: list[str], folder: Path) -> dict[str, Any]:
    """Run a command without the Hub and without anything of the user's home; returns exit code, times and memory."""
    (folder / "home").mkdir(parents=True, exist_ok=True)
    usage = folder / "usage.json"
    own = {"HF_HUB_OFFLINE": "1", "HOME": str(folder / "home"), "FTKIT_CACHE": str(folder / "home" / "ftkit")}
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"} | own
    if command[: len(_FTKIT)] == _FTKIT:
        environment["PYTHONPATH"] = str(ROOT)
    launcher = [sys.executable, "-S", str(Path(__file__).with_name("rival_tools.py")), "measure", str(_LIMIT)]
    with (folder / "log.txt").open("wb") as log:
        subprocess.run(
            [*launcher, str(usage), *command], stdout=log, stderr=subprocess.STDOUT, env=environment, check=True
        )
    found: dict[str, Any] = json.loads(usage.read_text(encoding="utf-8"))
    return found


def reason(log: Path, usage: dict[str, Any]) -> str:
    """Why a tool gave no answer: the limit of time, the Hub, or the last line that it printed."""
    if usage["seconds"] >= _LIMIT:
        return f"not done in {_LIMIT} seconds"
    lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if any("offline" in line.lower() or "couldn't connect" in line.lower() for line in lines):
        return "needs the Hub: not run"
    return (lines or ["it ended without a word"])[-1]


def by_ftkit(request: dict[str, str], asking: Asking, folder: Path) -> Row:
    """What ``ftkit verdict`` says, in a process of its own like the others."""
    command = [*_FTKIT, "verdict", "--json", "--seed", "0", *_texts_and_windows(request, asking)]
    command += ["--tuned", request["tuned"]]
    if "manifest" in request:
        secrets = planted_and_controls(Path(request["manifest"]))
        (folder / "canaries.txt").write_text("\n".join(secrets), encoding="utf-8")
        command += ["--canaries", str(folder / "canaries.txt"), "--train-windows", _ALL_WINDOWS]
    usage = measured(command, folder)
    if usage["code"]:
        return {"cannot": reason(folder / "log.txt", usage), **usage}
    printed = (folder / "log.txt").read_text(encoding="utf-8")
    found = json.loads(printed[printed.index("{") :])
    evidence = found["evidence"]
    gain, rises = evidence["heldout"]["gain"], [text for text in found["decided_by"] if "rise" in text]
    figure = f"gain {gain['value']:.2f} [{gain['low']:.2f}, {gain['high']:.2f}] bits per byte"
    memory = {**((evidence.get("measures") or {}).get("memorization") or {}), "known": None}
    details = {key: found[key] for key in ("decided_by", "rule", "reasons")} | {"memorization": memory, "rises": rises}
    if "manifest" in request:
        sides, gains = list(secrets.values()), [each["gain"] for each in memory["canaries"]["each"]]
        known = [side for side, gain in zip(sides, gains, strict=True) if gain > memory["canaries"]["limit"]]
        counts = [f"{known.count(side)}/{sides.count(side)}" for side in (True, False)]
        figure += f", canaries {counts[0]} (controls {counts[1]})"
    return {
        "word": " + ".join([found["verdict"], *found["also"]]), "figure": figure, "details": details, **usage,
        "versions": {name: version(name) for name in ("ftkit", "torch", "transformers")},
    }  # fmt: skip


def planted_and_controls(manifest: Path) -> dict[str, bool]:
    """memaudit's canaries as lines, and whether each stands in the text; the others are its controls."""
    canaries = json.loads(manifest.read_text(encoding="utf-8"))["canaries"]
    return {" ".join(each["secret"].split()): each["included"] for each in canaries}


_FTKIT = [sys.executable, "-m", "ftkit"]


def _texts_and_windows(request: dict[str, str], asking: Asking) -> list[str]:
    windows = {"window-tokens": asking.bench.loop.window_tokens, "eval-windows": asking.bench.eval_windows}
    named = {key: request[key] for key in ("base", "text", "heldout", "general")} | windows
    return [word for key, value in named.items() for word in (f"--{key}", str(value))]


def mended(asking: Asking, folder: Path) -> Row:
    """The adapter that forgot, mended by avr-cl and by ``ftkit blend``: gain and rise of each, measured by ftkit."""
    request, adapter = asking.request("forgotten"), asking.tuned("forgotten")
    before = asking.folder / "adapter-before-training"
    if not before.exists():
        loop = replace(asking.bench.loop_of(asking.case("forgotten"), 0), steps=0)
        make_folder(str(asking.bench.base), asking.bench.text("alice-train"), loop, before)
    by_avr = folder / "by-avr-cl"
    given = {**request, "base": str(asking.base), "adapter": str(adapter), "before": str(before)}
    row = asking.ask("avr-cl", given, by_avr)
    if "cannot" in row:
        return row
    blended = blend(asking, request, adapter, _ALPHAS[asking.bench.name], folder / "by-ftkit")
    row["mended"] = {
        "as trained": blended["points"][-1],
        "avr-cl": blend(asking, request, by_avr, "1", folder / "measured")["points"][0],
        "ftkit blend": next(point for point in blended["points"] if point["scale"] == blended["alpha"]),
        "points": blended["points"], "ftkit": {key: blended[key] for key in ("seconds", "cpu_seconds", "peak_bytes")},
    }  # fmt: skip
    return row


def blend(asking: Asking, request: dict[str, str], adapter: Path, alphas: str, folder: Path) -> dict[str, Any]:
    """What ``ftkit blend`` writes about points, and what it took."""
    out = folder / "model"
    if out.exists():
        shutil.rmtree(out)
    options = _texts_and_windows(request, asking)
    place = options.index("--base")
    command = [*_FTKIT, "blend", options.pop(place + 1), str(adapter), str(out), "--alphas", alphas]
    options.remove("--base")
    usage = measured([*command, *options], folder)
    if usage["code"]:
        raise RuntimeError(reason(folder / "log.txt", usage))
    return {**json.loads((out / "blend.json").read_text(encoding="utf-8")), **usage}


def ask(tool: str, name: str, asking: Asking) -> Row:
    """One row: a tool and a case."""
    folder = asking.folder / "asked" / f"{tool}-{name.replace(' ', '-')}"
    folder.mkdir(parents=True, exist_ok=True)
    if tool == "avr-cl":
        return mended(asking, folder)
    request: dict[str, str] = asking.request(name)
    if tool == "ftkit":
        return by_ftkit(request, asking, folder)
    if why := asking.misread(tool, request):
        return {"cannot": why}
    return asking.ask(tool, {**request, "mode": "fast"}, folder)


def asked_of(tool: str, name: str) -> bool:
    """Whether a tool can be asked about a case at all."""
    return (name == "forgotten") if tool == "avr-cl" else name != "canaries" or tool in ("ftkit", "memaudit")


def run(asking: Asking, tools: Iterable[str], names: Iterable[str], file: Path) -> list[Row]:
    """Ask each tool about each case; what the file holds is not asked again.

    Args:
        asking: Base, folders and environments.
        tools: Names of tools.
        names: Cases.
        file: Where rows are kept as soon as they are known.
    """
    rows = read(file)
    base, names = asking.bench.name, list(names)
    for tool, name in ((tool, name) for tool in tools for name in names if asked_of(tool, name)):
        if any((row["base"], row["case"], row["tool"]) == (base, name, tool) for row in rows):
            continue
        row = {"base": base, "case": name, "tool": tool, **ask(tool, name, asking)}
        rows.append(row)
        print(f"{base} {name:<16} {tool:<14} {says(row)}", flush=True)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, {"machine": machine(), "rows": rows})
    return rows


def read(file: Path) -> list[Row]:
    """Rows of a file; none where it is not there."""
    found: list[Row] = json.loads(file.read_text(encoding="utf-8"))["rows"] if file.exists() else []
    return found


def machine() -> dict[str, Any]:
    """What it ran on."""
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if Path("/proc/cpuinfo").is_file() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return {"processor": names[0] if names else platform.processor(), "cores": os.cpu_count(),
            "threads": os.environ.get("OMP_NUM_THREADS", ""), "python": platform.python_version()}  # fmt: skip


def says(row: Row) -> str:
    """A row in words: the tool's word and figure, or why it could not be asked."""
    words = f"cannot be asked: {row['cannot']}" if "cannot" in row else f"{row['word']}; {row['figure']}"
    return words.replace("|", "\\|")


def table(rows: Iterable[Row]) -> str:
    """Rows in Markdown: for each base what tools say of each case, what they took, and what was mended."""
    rows = list(rows)
    lines: list[str] = []
    for base in dict.fromkeys(row["base"] for row in rows):
        of_base = [row for row in rows if row["base"] == base]
        tools, cases = ([name for name in known if any(row[key] == name for row in of_base)]
                        for key, known in (("tool", TOOLS), ("case", CASES[base])))  # fmt: skip
        said = {(row["case"], row["tool"]): says(row) for row in of_base}
        asked = [tool for tool in tools if tool != "avr-cl"]
        lines += ["", f"### {base}", "", f"| case | {' | '.join(asked)} |", "|---" * (len(asked) + 1) + "|"]
        lines += [f"| {case} | {' | '.join(said.get((case, tool), '') for tool in asked)} |" for case in cases]
        lines += ["", "| tool | versions | cases | processor | clock | peak memory |", "|---|---|---|---|---|---|"]
        lines += [_costs(tool, [row for row in of_base if row["tool"] == tool]) for tool in tools]
        lines += [line for row in of_base if "mended" in row for line in ("", *_mended_lines(row))]
    return "\n".join(lines[1:])


def _costs(tool: str, rows: list[Row]) -> str:
    """Medians of the cases that a tool answered."""
    answered = [row for row in rows if "cannot" not in row]
    if not answered:
        return f"| {tool} | | 0 of {len(rows)} | | | |"
    versions = ", ".join(f"{name} {number}" for name, number in answered[0]["versions"].items())
    cpu, clock, peak = (median(row[key] for row in answered) for key in ("cpu_seconds", "seconds", "peak_bytes"))
    counted = f"{len(answered)} of {len(rows)}"
    return f"| {tool} | {versions} | {counted} | {cpu:.0f} s | {clock:.0f} s | {peak / 2**20:.0f} MiB |"


def _mended_lines(row: Row) -> Iterator[str]:
    """What was mended, and the points of the blend whose rise is next to that of the other tool."""
    found = row["mended"]
    chosen = found["ftkit blend"]
    named = {"as trained": found["as trained"], "avr-cl": found["avr-cl"]}
    named[f"ftkit blend, its choice: alpha {chosen['scale']:g}"] = chosen
    rise = found["avr-cl"]["rise"]["value"]
    below = [point for point in found["points"] if point["rise"]["value"] <= rise][-1:]
    above = [point for point in found["points"] if point["rise"]["value"] > rise][:1]
    named |= {f"ftkit blend at alpha {point['scale']:g}": point for point in below + above if point != chosen}
    yield "| model | gain, bits per byte | rise on general text |"
    yield "|---|---|---|"
    for name, point in named.items():
        gain, rise = (Interval(**point[key]) for key in ("gain", "rise"))
        yield f"| {name} | {interval(gain)} | {percent_interval(rise)} |"


def main(words: list[str]) -> int:
    """Ask, and print the tables."""
    parser = argparse.ArgumentParser(
        "scripts/bench rivals", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--base", choices=CASES, default="stories260k")
    parser.add_argument("--tools", nargs="*", choices=TOOLS, default=list(TOOLS))
    parser.add_argument("--cases", nargs="*", metavar="NAME", help="cases; by default all of the base")
    parser.add_argument("--json", type=Path, required=True, help="file of all rows; what it holds is not asked again")
    parser.add_argument("--work", type=Path, help="folder for models and texts, as that of scripts/battery")
    parser.add_argument("--environments", type=Path, default=cache_dir() / "rivals", help="folder for environments")
    parser.add_argument("--table", action="store_true", help="print the tables of FILE, and ask nobody")
    asked = parser.parse_args(words)
    if not asked.table:
        names = asked.cases or list(CASES[asked.base])
        if unknown := set(names) - set(CASES[asked.base]):
            parser.error(f"{asked.base} has no case {', '.join(sorted(unknown))}")
        if not asked.work:
            parser.error("--work names the folder for models and texts")
        if missing := missing_inputs(asked.base):
            parser.error(missing)
        bench = bench_of(asked.base, asked.work.resolve())
        run(Asking(bench, asked.environments.resolve()), asked.tools, names, asked.json)
    print(table(read(asked.json)))
    return 0
