"""Recipes as users start them: whole runs in real processes, interrupted, resumed, and started wrongly."""

import hashlib
import json
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from processes import Running, python

from ftkit.models.outputs import ROUNDING

PRETRAIN = str(Path(__file__).parents[2] / "recipes" / "pretrain.py")
ENVIRONMENT = {"ACCELERATE_USE_CPU": "true", "COLUMNS": "200"}
SMALL = [
    "--fast", "--max_steps", "8", "--eval_steps", "4", "--sample_steps", "4", "--save_steps", "1",
    "--num_passages", "8",
]  # fmt: skip


def started(*arguments: object, **extra: str) -> Running:
    """Start the command line."""
    return Running("-m", "ftkit", *arguments, **{**ENVIRONMENT, **extra})


def ftkit(*arguments: object, **extra: str) -> subprocess.CompletedProcess[str]:
    """Run the command line; a traceback is never acceptable."""
    done = started(*arguments, **extra).wait()
    assert "Traceback" not in done.stderr, done.stderr
    return done


def weights(run: Path, model: str = "model") -> str:
    return hashlib.sha256((run / "models" / model / "model.safetensors").read_bytes()).hexdigest()


def train_lines(run: Path) -> list[tuple]:
    lines = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    return [(r["step"], r["loss"], r["grad_norm"]) for r in lines if r["split"] == "train"]


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An uninterrupted small run."""
    folder = tmp_path_factory.mktemp("runs") / "whole"
    done = ftkit("run", "pretrain", *SMALL, "--output_dir", folder)
    assert done.returncode == 0, done.stderr
    assert str(folder / "report.html") in done.stdout
    return folder


def test_a_run_folder_holds_what_is_promised(pretrained):
    names = {p.name for p in pretrained.iterdir()}
    assert {
        "config.yaml",
        "manifest.json",
        "metrics.jsonl",
        "checkpoints",
        "models",
        "samples.jsonl",
        "evidence.json",
        "verdict.json",
        "figures",
        "report.html",
    } <= names
    manifest = json.loads((pretrained / "manifest.json").read_text())
    assert (manifest["status"], manifest["exit_code"], manifest["plan"]["model"]["processes"]) == ("done", 0, 1)
    assert manifest["plan"]["model"]["tokens"] == 8 * 8 * 96
    assert len(manifest["data"]["corpus"]["sha256"]) == 64
    assert json.loads((pretrained / "verdict.json").read_text())["model"]["verdict"]
    assert len(train_lines(pretrained)) == 8
    assert {p.suffix for p in (pretrained / "figures").iterdir()} == {".csv", ".png", ".svg"}


def test_a_saved_model_loads_with_plain_transformers(pretrained):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = pretrained / "models" / "model"
    assert "## Measured" in (folder / "README.md").read_text(encoding="utf-8")
    model, tokenizer = AutoModelForCausalLM.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    assert model.lm_head.weight is model.model.embed_tokens.weight
    text = "The lamp is lit."
    assert tokenizer.decode(tokenizer(text)["input_ids"]) == text


def test_giving_back_the_config_reproduces_the_run(pretrained, tmp_path):
    done = ftkit("run", "pretrain", "--config", str(pretrained / "config.yaml"), "--output_dir", tmp_path / "again")
    assert done.returncode == 0, done.stderr
    assert weights(tmp_path / "again") == weights(pretrained)


def test_resuming_a_finished_run_changes_nothing(pretrained):
    before = {p: p.read_bytes() for p in pretrained.rglob("*") if p.is_file()}
    done = ftkit("resume", pretrained)
    assert done.returncode == 0
    assert "report.html" in done.stdout
    assert {p: p.read_bytes() for p in pretrained.rglob("*") if p.is_file()} == before


def wait_for_step(run: Path, step: int) -> None:
    """Wait until a run has logged a step."""
    limit = time.monotonic() + 120
    while time.monotonic() < limit:
        if (run / "metrics.jsonl").exists() and any(
            f'"step": {step},' in line for line in (run / "metrics.jsonl").read_text().splitlines()
        ):
            return
        time.sleep(0.02)
    raise AssertionError(f"step {step} never came")


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interrupted_run_says_how_to_go_on_and_loses_nothing(pretrained, tmp_path, number, code):
    run = tmp_path / "run"
    process = started("run", "pretrain", *SMALL, "--output_dir", run)
    wait_for_step(run, 3)
    process.send_signal(number)
    done = process.wait()
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    assert f"ftkit resume {run}" in done.stdout
    assert json.loads((run / "manifest.json").read_text())["status"] == "interrupted"
    assert ftkit("resume", run).returncode == 0
    assert weights(run) == weights(pretrained)
    assert train_lines(run) == train_lines(pretrained)


def test_two_processes_under_torchrun_go_through_the_whole_recipe(pretrained, tmp_path):
    run = tmp_path / "two"
    done = python(
        "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2", PRETRAIN, *SMALL,
        "--max_steps", 3, "--per_device_train_batch_size", 4, "--output_dir", run, **ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads((run / "manifest.json").read_text())["plan"]["model"]["processes"] == 2
    one, two = train_lines(pretrained), train_lines(run)
    assert [r[0] for r in two] == [1, 2, 3]
    # Dropout draws differ between one process and two, so only the first loss, before any update, can be near.
    assert two[0][1] == pytest.approx(one[0][1], rel=0.02)
    assert (run / "report.html").exists()


def test_accelerate_launch_is_the_same_thing(pretrained, tmp_path):
    run = tmp_path / "launched"
    done = python(
        "-m", "accelerate.commands.launch", "--cpu", "--num_processes", "1", "--num_machines", "1",
        "--mixed_precision", "no", "--dynamo_backend", "no", PRETRAIN, *SMALL, "--output_dir", run, **ENVIRONMENT,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert weights(run) == weights(pretrained)


def test_imitate_goes_from_texts_to_verdicts(tmp_path):
    run = tmp_path / "imitate"
    done = ftkit(
        "run", "imitate", "--fast", "--max_steps", 6, "--judge_steps", 3, "--num_passages", 30, "--passage_chars", 60,
        "--judge_max_steps", 6, "--judge_tokens", 32, "--output_dir", run,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    verdicts, evidence = (json.loads((run / f"{name}.json").read_text()) for name in ("verdict", "evidence"))
    assert verdicts.keys() == evidence["models"].keys() == {"keeper", "almanac"}
    assert {style["judge"] for style in evidence["models"]["keeper"]["measures"]["style"]["judges"]} == {
        "encoder",
        "ngrams",
    }
    assert evidence["models"]["keeper"]["measures"]["integrity"]["reload_difference"] < ROUNDING
    assert {p.name for p in (run / "models").iterdir()} == {"keeper", "almanac", "judge"}
    judged = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [r["step"] for r in judged if r["split"] == "judge" and r["model"] == "keeper"] == [0, 3, 6]
    assert all(0 < times["share"] < 1 for times in evidence["judging"].values())
    assert not [p for p in run.rglob("*") if p.suffix in (".pt", ".pkl", ".bin", ".pth")]


@pytest.mark.parametrize(
    ("arguments", "code", "said"),
    [
        (["run", "imitat"], 2, "did you mean 'imitate'?"),
        (["run", "pretrain", "--corpus", "a.txt", "--max_stepz", "3"], 2, "did you mean 'max_steps'?"),
        (["run", "pretrain"], 2, "give either corpus or corpora"),
        (["run", "pretrain", "--config", "demmo"], 2, "did you mean 'demo'?"),
        (["run", "pretrain", "--corpus", "nowhere.txt"], 4, "nowhere.txt"),
        (["run", "pretrain", "--corpus", "{latin}"], 4, "byte 1"),
        (["run", "pretrain", "--corpus", "voices:keepr"], 4, "keeper"),
        (["run", "pretrain", "--corpus", "gutenberg:11"], 7, "11.txt"),
        (["run", "imitate", "--model", "./no-model", "--max_steps", "2"], 4, "no-model"),
        (["run", "imitate", "--model", "{empty}"], 4, "config.json"),
        (
            ["run", "imitate", "--general", "shuffled words=a.txt"],
            2,
            "'shuffled words' is a name that ftkit uses itself",
        ),
        (["resume", "nowhere"], 6, "nowhere"),
        (["run", "pretrain", "--fast", "--fp16"], 3, "fp16"),
        (["run", "pretrain", "--fast", "--learning_rate", "1e30"], 5, "Lower learning_rate"),
    ],
)
def test_a_mistake_has_its_exit_code_and_one_message(tmp_path, monkeypatch, arguments, code, said):
    (tmp_path / "latin.txt").write_bytes(b"a" + "é".encode("latin-1") * 3000)
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    places = {"{latin}": "latin.txt", "{empty}": "./empty"}
    done = ftkit(*(places.get(a, a) for a in arguments), FTKIT_BOOKS="", FTKIT_CACHE=str(tmp_path / "cache"))
    assert done.returncode == code, done.stderr
    assert said in done.stderr
    assert done.stderr.count("ftkit: ") == 1


def test_a_run_ends_with_commands_that_work_and_its_folder_says_that_it_is_finished(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    told = ["run", "finetune", *SMALL[:-1], "32", "--model", "base:tales", "--output_dir", "my run"]
    done = ftkit(*told)
    assert done.returncode == 0, done.stderr
    lines = done.stdout.partition("\nnext:\n")[2].splitlines()
    look, write, last = (line.split(maxsplit=1) for line in lines)
    assert (look[0], write[0], last[0]) == ("look", "write", "change")
    assert Path(shlex.split(look[1])[-1]).is_file()
    written = ftkit(*shlex.split(write[1])[1:], "--max_new_tokens", "4")
    assert (written.returncode, "models/base" in written.stderr) == (0, False), written.stderr
    assert {"text", "base"} <= json.loads(written.stdout.splitlines()[0]).keys()
    again = ftkit(*told)
    assert again.returncode == 2
    assert again.stderr.startswith("ftkit: my run: holds a finished run; 'ftkit report my run' shows its result.")


def test_a_folder_in_which_nothing_was_written_is_removed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mine").mkdir()
    for folder in ("new", "mine"):
        assert ftkit("run", "pretrain", "--fast", "--resume", "--output_dir", folder).returncode == 6
    assert ftkit("run", "pretrain", "--corpus", "nowhere.txt").returncode == 4
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]  # that one was there before


def test_copy_gives_a_program_and_a_config_that_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert ftkit("copy", "pretrain_model5_small").returncode == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["pretrain.py", "pretrain_model5_small.yaml"]
    assert ftkit("copy", "pretrain_model5_small").returncode == 2
    done = ftkit("run", "./pretrain_model5_small.yaml", *SMALL, "--output_dir", "out")
    assert done.returncode == 0, done.stderr
    assert f"recipe: {tmp_path / 'pretrain.py'}" in (tmp_path / "out" / "config.yaml").read_text()


def test_list_and_help_show_everything():
    listed = ftkit("list").stdout
    assert "imitate" in listed
    assert "style_evolution_small" in listed
    shown = ftkit("run", "imitate", "--help-all").stdout
    assert "--judge_steps" in shown
    assert "Steps between judgements; 0: after 1, 2, 4, 8" in shown


def test_help_is_fast_and_loads_no_torch():
    code = (
        "import sys\nsys.argv = ['ftkit', '--help']\nfrom ftkit.cli import main\ntry:\n    main()\n"
        "except SystemExit:\n    print('torch' in sys.modules, 'pydantic' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.stdout.strip().endswith("False False")
