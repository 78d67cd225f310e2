"""A model goes to a Hub and comes back the same; secrets do not, and what fails leaves nothing behind."""

import json
import os
import pickle
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from hub_server import TOKEN, Repository
from safetensors.torch import save_file
from transformers import GPT2Config, GPT2LMHeadModel

from ftkit.data import load_tokenizer
from ftkit.errors import ConfigError, DataError, ModelError, NetworkError
from ftkit.hub.transfer import pull, push
from ftkit.models import load_model, reload_difference, save_model
from ftkit.models.outputs import ROUNDING

pytestmark = pytest.mark.filterwarnings("ignore:Use 'content=")  # huggingface_hub 2.4 sends files in an old way

CODE = ("cache_ftkit_gpt2.py", "configuration_ftkit_gpt2.py", "modeling_ftkit_gpt2.py")
SENT = {"README.md", "config.json", "generation_config.json", "model.safetensors", "tokenizer.json"}
SENT |= {"tokenizer_config.json", *CODE}
SECRETS = [
    "hf_abcdefghijklmnopqrstuvwxyz01234567",
    "ghp_abcdefghijklmnopqrstuvwxyz0123456789",
    "github_pat_11ABCDEFG0abcdefghijkl_mnop",
    "sk-proj-abcdefghijklmnopqrstuvwxyz",
    "AKIAIOSFODNN7EXAMPLE",
    "-----BEGIN RSA PRIVATE KEY-----",
    "-----BEGIN OPENSSH PRIVATE KEY-----",
    "https://me:hunter2@host.example/data",
    "postgresql+psycopg://me:hunter2@db/data",
]


def everything(folder):
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


def test_a_model_goes_there_and_comes_back_the_same(hub, model, tmp_path):
    pushed = push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN, license="mit")
    assert set(pushed.files) == SENT
    assert pushed.card_written
    assert hub.repositories["me/alice"].branches["main"] == pushed.commit
    pulled = pull("me/alice", tmp_path / "back", endpoint=hub.endpoint, trust_remote_code=True)
    assert pulled.commit == pushed.commit
    assert everything(pulled.path) == SENT | {"pulled.json"}
    for name in SENT:
        assert (pulled.path / name).read_bytes() == (model / name).read_bytes(), name
    record = json.loads((pulled.path / "pulled.json").read_text())
    assert (record["commit"], record["revision"], set(record["sha256"])) == (pushed.commit, "main", SENT)
    tokenizer = load_tokenizer(str(pulled.path))
    ids = torch.tensor([tokenizer("down the rabbit hole")["input_ids"]])
    assert reload_difference(load_model(str(model)), pulled.path, ids) < ROUNDING


def test_a_pulled_model_loads_where_ftkit_is_not_installed(hub, model, tmp_path):
    """Also when the folder had lost its code, and its configuration named only one class."""
    expected = float(load_model(str(model))(torch.arange(8)[None]).logits.detach().sum())
    for name in CODE:
        (model / name).unlink()
    config = json.loads((model / "config.json").read_text())
    config["auto_map"] = {"AutoConfig": config["auto_map"]["AutoConfig"]}
    (model / "config.json").write_text(json.dumps(config))
    push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN)
    pulled = pull("me/alice", tmp_path / "back", endpoint=hub.endpoint, trust_remote_code=True)
    program = (
        "import sys\nsys.modules['ftkit'] = None\nimport torch\n"
        "from transformers import AutoModel, AutoModelForCausalLM, AutoTokenizer\n"
        "AutoModel.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "AutoTokenizer.from_pretrained(sys.argv[1], trust_remote_code=True)\n"
        "model = AutoModelForCausalLM.from_pretrained(sys.argv[1], trust_remote_code=True).eval()\n"
        "print(float(model(torch.arange(8)[None]).logits.detach().sum()))"
    )
    environment = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        [sys.executable, "-c", program, str(pulled.path)], stdin=subprocess.DEVNULL,
        capture_output=True, text=True, env=environment, cwd=tmp_path, timeout=200,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    assert float(done.stdout) == pytest.approx(expected, rel=1e-5)


def test_the_commands_push_and_pull(hub, model, tmp_path):
    environment = {**os.environ, "HF_ENDPOINT": hub.endpoint, "HF_TOKEN": TOKEN, "HF_HOME": str(tmp_path / "home")}
    environment |= {"HF_HUB_DISABLE_XET": "1", "HF_HUB_OFFLINE": "0"}

    (tmp_path / "work").mkdir()

    def ftkit(*arguments, **changes):
        return subprocess.run(
            [sys.executable, "-m", "ftkit", *arguments],
            capture_output=True, text=True, env=environment | changes, cwd=tmp_path / "work", timeout=200,
        )  # fmt: skip

    done = ftkit("push", str(model), "me/alice", "--private", "--revision", "draft")
    assert done.returncode == 0, done.stderr
    repository = hub.repositories["me/alice"]
    assert repository.private
    assert f"{hub.endpoint}/me/alice: {len(SENT)} files, branch draft" in done.stdout
    done = ftkit("pull", "me/alice", "--revision", "draft")
    assert done.returncode == 0, done.stderr
    assert f"files of commit {repository.branches['draft']}" in done.stdout
    assert f"left out: {', '.join(CODE)}" in done.stdout
    assert everything(tmp_path / "work" / "alice") >= {"config.json", "model.safetensors"}
    refused = "hf_aTokenThatIsRefused0123456789"
    done = ftkit("pull", "me/alice", "--to", "again", HF_TOKEN=refused)
    assert done.returncode == 7
    assert done.stderr.startswith("ftkit: me/alice: ")
    assert "Traceback" not in done.stderr
    assert refused not in done.stdout + done.stderr
    assert not (tmp_path / "work" / "again").exists()


def test_a_rung_of_the_ladder_brings_all_of_its_code(hub, tmp_path):
    save_model(load_model("new:ftkit_ladder"), None, tmp_path / "rung")
    whole = {path.name for path in (tmp_path / "rung").iterdir()}
    for path in (tmp_path / "rung").glob("*.py"):
        path.unlink()
    assert set(push(tmp_path / "rung", "me/rung", endpoint=hub.endpoint, token=TOKEN).files) == whole | {"README.md"}


# ----------------------------------------------------------------------------------------------- what is not sent


def test_only_files_of_a_model_are_sent_and_the_others_are_named(hub, model):
    for name in ("optimizer.pt", "training_args.bin", ".env", "notes.txt", "train.py", "data.csv", "figures/loss.csv"):
        (model / name).parent.mkdir(exist_ok=True)
        (model / name).write_bytes(pickle.dumps({}))
    (model / "figures" / "loss.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'/>")
    (model / "verdict.json").write_text("{}")
    (model / "vocab.txt").symlink_to(model / ".env")
    pushed = push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN)
    assert set(pushed.files) == SENT | {"figures/loss.svg", "verdict.json"}
    left_out = {".env", "data.csv", "figures/loss.csv", "notes.txt", "optimizer.pt", "train.py", "training_args.bin"}
    assert set(pushed.left_out) == left_out | {"vocab.txt"}


@pytest.mark.parametrize("secret", SECRETS)
def test_a_secret_in_any_text_stops_the_push_and_is_not_repeated(hub, model, secret):
    places = {"README.md": "# A\n\n{}\n", "verdict.json": '{{\n\n"a": "{}"}}', "chat_template.jinja": "x\ny\n{}"}
    for name, text in places.items():
        (model / name).write_text(text.format(secret))
        with pytest.raises(DataError, match=f"{name}, line 3: holds what looks like") as caught:
            push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN)
        assert secret[8:] not in str(caught.value)
        (model / name).unlink()
    assert not hub.requests


def test_a_secret_in_the_header_of_weights_stops_the_push(hub, model):
    save_file({"a": torch.zeros(2)}, model / "model.safetensors", metadata={"note": SECRETS[0]})
    with pytest.raises(DataError, match=r"model\.safetensors, line 1: holds what looks like a Hugging Face token"):
        push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN)
    (model / "model.safetensors").write_bytes(b"PASSWORD=hunter2\n" * 10)
    with pytest.raises(DataError, match="no whole safetensors file"):
        push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN)
    assert not hub.requests


@pytest.mark.parametrize(
    ("name", "key", "value"),
    [
        ("tokenizer_config.json", "vocab_file", "../.env"),
        ("tokenizer_config.json", "tokenizer_file", "/etc/passwd"),
        ("tokenizer_config.json", "merges_file", "C:\\Users\\me\\merges.txt"),
        ("tokenizer_config.json", "fast_tokenizer_files", ["tokenizer.json", "..\\.env"]),
        ("config.json", "vocab_file", "~/.ssh/id_ed25519"),
        ("config.json", "settings", {"settings_file": "a/../../b"}),
        ("adapter_config.json", "base_model_name_or_path", "/home/me/base"),
        ("model.safetensors.index.json", "weight_map", {"a": "../../other.safetensors"}),
    ],
)
def test_a_setting_that_points_outside_the_folder_stops_the_push(hub, model, name, key, value):
    settings = json.loads((model / name).read_text()) if (model / name).exists() else {}
    if name == "adapter_config.json":
        (model / "config.json").unlink()  # whole weights with an adapter beside them are refused before
    (model / name).write_text(json.dumps({**settings, key: value}))
    with pytest.raises(DataError, match=key):
        push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN)
    assert not hub.requests


def test_what_cannot_be_pushed_is_one_error(hub, model, tmp_path):
    run = tmp_path / "run"
    (run / "models" / "alice").mkdir(parents=True)
    there = {"endpoint": hub.endpoint, "token": TOKEN}
    for folder, repo, error, message in (
        (run, "me/a", ModelError, "it holds the models models/alice"),
        (tmp_path / "absent", "me/a", ModelError, "no such model folder"),
        (model, "alice", ConfigError, "OWNER/NAME"),
        (model, "two words/a", ConfigError, "OWNER/NAME"),
    ):
        with pytest.raises(error, match=message):
            push(folder, repo, **there)
    (model / "README.md").write_text("# mine\n")
    with pytest.raises(ConfigError, match="has no effect"):
        push(model, "me/a", license="mit", **there)
    assert not hub.requests
    assert not push(model, "me/a", **there).card_written
    with pytest.raises(DataError, match="is public"):
        push(model, "me/a", private=True, **there)


# ------------------------------------------------------------------------------------------------ what is not fetched


@pytest.fixture
def shared(hub, saved):
    """A repository with more in it than a model."""
    repository = hub.repositories["me/alice"] = Repository()
    files = {path.name: path.read_bytes() for path in saved.iterdir()}
    others = ("setup.py", "pytorch_model.bin", "optimizer.pt", ".gitattributes", "sub/config.json", "pulled.json")
    repository.commit(files | dict.fromkeys(others, b"x"))
    return repository


def test_code_and_pickles_stay_there_and_are_named(hub, shared, tmp_path):
    pulled = pull("me/alice", tmp_path / "plain", endpoint=hub.endpoint)
    assert everything(pulled.path) == (SENT - {"README.md", *CODE}) | {"pulled.json"}
    assert {*CODE, "setup.py", "pytorch_model.bin", "optimizer.pt", "sub/config.json"} < set(pulled.left_out)
    assert load_model(str(pulled.path)).config.model_type == "ftkit_gpt2"
    trusted = pull("me/alice", tmp_path / "trusted", endpoint=hub.endpoint, trust_remote_code=True, allow_pickle=True)
    assert set(trusted.files) - set(pulled.files) == {*CODE, "setup.py"}  # there are safetensors, so no pickles


def test_pickled_weights_come_only_when_asked(hub, tmp_path):
    model = GPT2LMHeadModel(GPT2Config(vocab_size=40, n_embd=16, n_layer=1, n_head=2, n_positions=24))
    model.save_pretrained(tmp_path / "here")
    torch.save(model.state_dict(), tmp_path / "here" / "pytorch_model.bin")
    names = ("config.json", "pytorch_model.bin")
    repository = hub.repositories["me/old"] = Repository()
    repository.commit({name: (tmp_path / "here" / name).read_bytes() for name in names} | {"optimizer.pt": b"x"})
    with pytest.raises(DataError, match=r"only pickled weights \(optimizer\.pt, pytorch_model\.bin\)"):
        pull("me/old", tmp_path / "back", endpoint=hub.endpoint)
    assert not (tmp_path / "back").exists()
    pulled = pull("me/old", tmp_path / "back", endpoint=hub.endpoint, allow_pickle=True)
    assert pulled.files == names
    assert torch.equal(load_model(str(pulled.path), allow_pickle=True).lm_head.weight, model.lm_head.weight)


def test_a_revision_is_one_commit_for_all_files(hub, shared, tmp_path):
    first = shared.branches["main"]
    second = shared.commit({"config.json": shared.commits[first]["config.json"].replace(b"0.02", b"0.03")})
    assert pull("me/alice", tmp_path / "a", endpoint=hub.endpoint).commit == second
    old = pull("me/alice", tmp_path / "b", revision=first, endpoint=hub.endpoint)
    assert old.commit == first
    assert b"0.02" in (tmp_path / "b" / "config.json").read_bytes()
    fetched = [request for request in hub.requests if "/resolve/" in request]
    assert len(fetched) >= 2 * len(old.files)
    assert all(f"/resolve/{first}/" in request or f"/resolve/{second}/" in request for request in fetched)
    with pytest.raises(NetworkError, match="no such revision"):
        pull("me/alice", tmp_path / "c", revision="v9", endpoint=hub.endpoint)


def cut_off(hub, shared):
    hub.cut = "model.safetensors"


def vanished(hub, shared):
    hub.vanished = "tokenizer.json"


def spoilt_weights(hub, shared):
    hub.spoilt = "model.safetensors"


def spoilt_text(hub, shared):
    hub.spoilt = "config.json"


def gated(hub, shared):
    shared.gated = True


def private(hub, shared):
    shared.private = True


def refused(hub, shared):
    hub.refuses = 401


def forbidden(hub, shared):
    hub.refuses = 403


def down(hub, shared):
    hub.refuses = 500


@pytest.mark.parametrize(
    ("plant", "message"),
    [
        (cut_off, "the connection to the Hub failed or broke off"),
        (vanished, "a file that it lists is not there"),
        (spoilt_weights, "another SHA-256"),
        (spoilt_text, "another hash"),
        (gated, "is gated; accept its terms"),
        (private, "does not exist, or is private"),
        (refused, r"refuses the token \(answer 401\)"),
        (forbidden, r"refuses the token \(answer 403\)"),
        (down, "answer 500"),
    ],
)
def test_a_pull_that_fails_is_one_error_and_leaves_nothing(hub, shared, tmp_path, monkeypatch, plant, message):
    monkeypatch.setattr(time, "sleep", lambda seconds: None)  # the client waits between its attempts
    plant(hub, shared)
    (tmp_path / "work").mkdir()
    token = "hf_aTokenThatIsRefused0123456789"
    with pytest.raises(NetworkError, match=message) as caught:
        pull("me/alice", tmp_path / "work" / "back", endpoint=hub.endpoint, token=token)
    assert caught.value.exit_code == 7
    assert token not in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not everything(tmp_path / "work")


@pytest.mark.parametrize(("plant", "message"), [(refused, "refuses the token"), (forbidden, "refuses the token")])
def test_a_push_that_is_refused_is_one_error(hub, shared, model, plant, message):
    plant(hub, shared)
    with pytest.raises(NetworkError, match=message) as caught:
        push(model, "me/alice", endpoint=hub.endpoint, token=TOKEN)
    assert TOKEN not in str(caught.value)


@pytest.mark.parametrize("plant", [refused, down])
def test_a_push_that_failed_leaves_the_folder_as_it_was(hub, shared, model, plant):
    before = {name: (model / name).read_bytes() for name in everything(model)}
    plant(hub, shared)
    with pytest.raises(NetworkError):
        push(model, "me/typo", endpoint=hub.endpoint, token=TOKEN)
    assert {name: (model / name).read_bytes() for name in everything(model)} == before
    hub.refuses = None
    assert push(model, "me/right", endpoint=hub.endpoint, token=TOKEN, license="mit").card_written
    assert "# me/right" in (model / "README.md").read_text().splitlines()


def test_a_card_that_nobody_edited_is_written_again_for_the_next_push(hub, model):
    there = {"endpoint": hub.endpoint, "token": TOKEN}
    push(model, "me/first", license="mit", **there)
    assert push(model, "me/second", **there).card_written
    second = (model / "README.md").read_text()
    assert "# me/second" in second.splitlines()
    assert "me/first" not in second
    assert "license: mit" in second.splitlines(), "what was said before holds"
    push(model, "me/second", license="apache-2.0", **there)
    third = (model / "README.md").read_text()
    assert "license: apache-2.0" in third.splitlines()
    (model / "README.md").write_text(third.replace("## Limits", "## My limits"))
    assert not push(model, "me/third", **there).card_written
    assert "# me/second" in (model / "README.md").read_text().splitlines()
    with pytest.raises(ConfigError, match="license"):
        push(model, "me/third", license="mit", **there)


def test_no_hub_at_all_is_one_error(hub, model, tmp_path):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        endpoint = f"http://127.0.0.1:{unused.getsockname()[1]}"
    with pytest.raises(NetworkError, match="connection to the Hub failed"):
        pull("me/alice", tmp_path / "back", endpoint=endpoint)
    with pytest.raises(NetworkError, match="connection to the Hub failed"):
        push(model, "me/alice", endpoint=endpoint, token=TOKEN)
    assert not (tmp_path / "back").exists()


def test_a_folder_in_use_and_a_repository_without_a_model_are_refused(hub, shared, tmp_path):
    (tmp_path / "thesis.txt").write_text("years")
    for target in (tmp_path, tmp_path / "thesis.txt"):
        with pytest.raises(DataError, match="not empty"):
            pull("me/alice", target, endpoint=hub.endpoint)
    hub.repositories["me/data"] = Repository()
    with pytest.raises(DataError, match="holds no model"):
        pull("me/data", tmp_path / "back", endpoint=hub.endpoint)
    with pytest.raises(ConfigError, match="OWNER/NAME"):
        pull("no such/name", tmp_path / "back", endpoint=hub.endpoint)


def test_offline_is_said(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(NetworkError, match="HF_HUB_OFFLINE is set"):
        pull("me/alice", tmp_path / "back", endpoint=hub.endpoint)


def test_the_own_code_is_what_the_package_holds(model):
    import ftkit.models

    for name in CODE:
        assert (model / name).read_bytes() == (Path(ftkit.models.__file__).parent / name).read_bytes()
