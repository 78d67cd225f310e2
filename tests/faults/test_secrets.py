"""Tokens in the environment reach no file and no line of output; in a setting they are refused."""

import os
import random
import string
from pathlib import Path

import trials

PREFIXES = {
    "HF_TOKEN": "hf_", "HUGGING_FACE_HUB_TOKEN": "hf_", "WANDB_API_KEY": "", "GITHUB_TOKEN": "ghp_",
    "AWS_SECRET_ACCESS_KEY": "AWS", "OPENAI_API_KEY": "sk-", "FTKIT_SECRET": "canary",
}  # fmt: skip
SMALL = ["--fast", "--max_steps", "2", "--num_passages", "8", "--eval_steps", "2", "--sample_steps", "2"]


def canary(prefix: str) -> str:
    """A secret that stands nowhere else."""
    return prefix + "".join(random.Random(prefix).choices(string.ascii_letters + string.digits, k=32))


def files_with(folder: Path, secrets: list[str]) -> list[Path]:
    """Files below a folder that hold one of the secrets, in any place, or have it in their name."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    assert len(files) > 20
    return [p for p in files if any(s in p.name or s.encode() in p.read_bytes() for s in secrets)]


def test_no_token_of_the_environment_is_written_or_said(tmp_path):
    secrets = {name: canary(prefix) for name, prefix in PREFIXES.items()}
    environment = {**secrets, "FTKIT_CACHE": str(tmp_path / "cache"), "HF_HOME": str(tmp_path / "home")}
    run = tmp_path / "run"
    code, said = trials.run(
        "run", "pretrain", *SMALL, "--output_dir", str(run), log=tmp_path / "log", environment=environment
    )
    assert code == 0, said
    assert (run / "report.html").exists()
    assert files_with(tmp_path, list(secrets.values())) == []
    planted = tmp_path / "run" / "figures" / os.urandom(4).hex()
    planted.write_bytes(b"\0" + secrets["HF_TOKEN"].encode() + b"\0")
    assert files_with(tmp_path, list(secrets.values())) == [planted]


def test_a_run_that_ends_badly_writes_no_token_either(tmp_path):
    token = canary("hf_")
    run = tmp_path / "run"
    flags = ["--corpus", f"https://someone:{token}@localhost/text.txt"]
    code, said = trials.run(*trials.job(run, *flags), log=tmp_path / "log", environment={"HF_TOKEN": token})
    assert code == 2, said
    assert "holds a password or a token" in said
    assert token not in said
    assert not run.exists()
    code, said = trials.run(*trials.job(run, "--corpus", f"{token}.txt"), log=tmp_path / "log")
    assert (code, token in said) == (2, False)
