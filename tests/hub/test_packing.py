"""A run in one zip and back, byte for byte; a zip that is not what it should be writes nothing anywhere."""

import hashlib
import io
import os
import re
import stat
import struct
import time
import warnings
import zipfile
from pathlib import Path

import pytest
from filelock import FileLock
from typer.testing import CliRunner

from ftkit.errors import CheckpointError, DataError, ModelError
from ftkit.hub.archive import Limits, pack, unpack
from ftkit.models import load_model, reload_difference, save_model
from ftkit.models.outputs import ROUNDING


@pytest.fixture
def run(tmp_path):
    """A folder with all that a run leaves."""
    folder = tmp_path / "runs" / "imitate-1"
    for name, content in {
        "config.yaml": b"recipe: imitate\n",
        "manifest.json": b'{"status": "done"}\n',
        "metrics.jsonl": b'{"step": 1, "loss": 3.2}\n' * 500,
        "figures/Größe.csv": b"a,b\n",
        "models/alice/config.json": b"{}",
        "models/alice/model.safetensors": os.urandom(50_000),
        "checkpoints/alice/step-000010/model.safetensors": os.urandom(90_000),
        ".lock": b"",
        ".report.html.17.tmp": b"<html",
    }.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def contents(folder: Path) -> dict[str, str]:
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in folder.rglob("*")
        if path.is_file()
    }


def everything(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*")}


@pytest.mark.parametrize("checkpoints", [False, True])
def test_a_run_comes_back_byte_for_byte(run, tmp_path, checkpoints):
    packed = pack(run, tmp_path / "out" / "run.zip", checkpoints=checkpoints)
    unpacked = unpack(packed.path, tmp_path / "elsewhere" / "run")
    expected = {name: sha for name, sha in contents(run).items() if not name.startswith(".")}
    if not checkpoints:
        del expected["checkpoints/alice/step-000010/model.safetensors"]
    assert contents(unpacked.path) == expected
    assert packed.files == unpacked.files == len(expected)
    size = sum((run / name).stat().st_size for name in expected)
    assert packed.raw_bytes == unpacked.raw_bytes == size
    assert packed.zip_bytes == packed.path.stat().st_size
    assert packed.ratio == packed.zip_bytes / size
    assert packed.left_out == (".report.html.17.tmp", *(() if checkpoints else ("checkpoints",)))
    assert everything(tmp_path / "out") == {"run.zip"}


def test_another_program_reads_the_zip_and_the_same_run_gives_the_same_bytes(run, tmp_path):
    first, second = pack(run, tmp_path / "a.zip"), pack(run, tmp_path / "b.zip")
    assert first.path.read_bytes() == second.path.read_bytes()
    with zipfile.ZipFile(first.path) as archive:
        assert archive.testzip() is None
        assert archive.read("config.yaml") == b"recipe: imitate\n"


def test_a_packed_model_computes_the_same(tmp_path):
    model = load_model("new:ftkit_gpt2", seed=0)
    save_model(model, None, tmp_path / "model")
    packed = pack(tmp_path / "model", tmp_path / "model.zip")
    unpack(packed.path, tmp_path / "there")
    assert reload_difference(model, tmp_path / "there", load_model("new:gpt2").dummy_inputs["input_ids"]) < ROUNDING
    assert 0.8 < packed.ratio < 0.95  # lesson 07/020: weights hardly shrink


@pytest.mark.filterwarnings("ignore")  # peft 0.21 warns of names that go
def test_a_base_that_does_not_come_along_is_named(tmp_path):
    from peft import LoraConfig, get_peft_model

    from ftkit.cli import app

    run = tmp_path / "run"
    save_model(load_model("new:gpt2,n_layer=1,n_embd=16,n_head=2"), None, run / "models" / "base")
    (run / "manifest.json").write_text("{}")
    config = LoraConfig(r=1, target_modules=["c_attn"], task_type="CAUSAL_LM")
    wrapped = get_peft_model(load_model(str(run / "models" / "base")), config)
    for name, base in {"tuned": "../base", "other": "somebody/gone"}.items():
        wrapped.peft_config["default"].base_model_name_or_path = base
        wrapped.save_pretrained(run / "models" / name)
    packed = pack(run, tmp_path / "run.zip")
    assert packed.bases == {"models/other": "somebody/gone"}  # the other one's base is in the zip
    assert unpack(packed.path, tmp_path / "there").bases == packed.bases
    load_model(str(tmp_path / "there" / "models" / "tuned"))

    shown = CliRunner().invoke(app, ["pack", str(run / "models" / "tuned"), str(tmp_path / "alone.zip")])
    base = run / "models" / "base"
    assert f"needs: the adapter stands on {base}, which is not in the zip" in " ".join(shown.output.split())
    alone = unpack(tmp_path / "alone.zip", tmp_path / "alone")
    assert alone.bases == {".": "../base"}
    with pytest.raises(ModelError, match=r"base '\.\./base', which is not there .* --base or adapter_base"):
        load_model(str(alone.path))
    assert load_model(str(alone.path), adapter_base=str(base))


def test_what_cannot_be_packed_is_one_error(run, tmp_path):
    (tmp_path / "photos").mkdir()
    (tmp_path / "there.zip").write_bytes(b"x")
    for folder, target, message in (
        (tmp_path / "absent", tmp_path / "a.zip", "no such folder"),
        (tmp_path / "photos", tmp_path / "a.zip", "neither a run nor a model"),
        (run, tmp_path / "there.zip", "exists already"),
        (run, run / "a.zip", "lies in the folder"),
    ):
        with pytest.raises(DataError, match=message):
            pack(folder, target)
    with FileLock(run / ".lock"):
        with pytest.raises(CheckpointError, match="at work"):
            pack(run, tmp_path / "a.zip")
    (run / "models" / "alice" / "link").symlink_to(tmp_path / "there.zip")
    with pytest.raises(DataError, match="is a link"):
        pack(run, tmp_path / "a.zip")
    (run / "models" / "alice" / "link").unlink()
    (run / "back\\slash").write_bytes(b"x")
    with pytest.raises(DataError, match="backslash"):
        pack(run, tmp_path / "a.zip")
    assert {path.name for path in tmp_path.iterdir()} == {"photos", "runs", "there.zip"}
    assert (tmp_path / "there.zip").read_bytes() == b"x"


# ------------------------------------------------------------------------------------------------------- bad zips


def zip_of(*entries: tuple[str, bytes], mode: int = 0, flags: int = 0) -> bytes:
    """A zip with the given names, whatever they are."""
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries:
            info = zipfile.ZipInfo("x" * len(name))
            info.filename, info.external_attr, info.compress_type = name, mode << 16, zipfile.ZIP_DEFLATED
            with warnings.catch_warnings(action="ignore"):  # "Duplicate name"
                archive.writestr(info, content)
    data = bytearray(stream.getvalue())
    if flags:  # in the local and in the central header
        for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
            place = data.find(signature) + offset
            data[place : place + 2] = struct.pack("<H", flags)
    return bytes(data)


def with_size(size: int) -> bytes:
    """A zip of one file that says it has another size than it has."""
    data = bytearray(zip_of(("a", b"0" * 1000)))
    for signature, offset in ((b"PK\x03\x04", 22), (b"PK\x01\x02", 24)):
        place = data.find(signature) + offset
        data[place : place + 4] = struct.pack("<I", size)
    return bytes(data)


def bomb() -> bytes:
    """Says that it holds 3 GB, as a thousand-fold bomb does; what it holds does not matter."""
    return with_size(3 * 10**9)


def a_million_entries() -> bytes:
    local = b"PK\x03\x04" + struct.pack("<5H3I2H", 20, 0, 0, 0, 33, 0, 0, 0, 1, 0) + b"a"
    central = b"PK\x01\x02" + struct.pack("<6H3I5H2I", 20, 20, 0, 0, 0, 33, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0) + b"a"
    directory = central * 1_000_000
    end = b"PK\x05\x06" + struct.pack("<4H2IH", 0, 0, 1, 1, len(directory), len(local), 0)  # it says: one entry
    return local + directory + end


NAMES = [
    "../evil", "a/../../evil", "/evil", "//evil", "C:/evil", "c:evil", "\\evil", "..\\evil", "a\\..\\..\\evil", "..",
    "a/..", "./evil", "a//b", "\uff0e\uff0e/evil", "\u2025/evil", "\u2024\u2024/evil", "..\uff0fevil", "a/\u2026/b",
    ".. /evil", "a\u202egpj.exe", "zero\u200bwidth", "tab\tname", "file:stream", "x" * 300,
]  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_a_path_that_could_leave_the_folder_writes_nothing(tmp_path, name):
    said, left = refusal(tmp_path, zip_of(("manifest.json", b"{}"), (name, b"evil")))
    assert "the entry" in said
    assert left == {"in.zip"}
    assert not Path("/evil").exists()


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: zip_of(("link", b"/etc/passwd"), mode=stat.S_IFLNK | 0o777), "is a link, a device"),
        (lambda: zip_of(("device", b""), mode=stat.S_IFCHR | 0o666), "is a link, a device"),
        (lambda: zip_of(("pipe", b""), mode=stat.S_IFIFO | 0o666), "is a link, a device"),
        (lambda: zip_of(("folder/", b""), mode=stat.S_IFREG | 0o644), "is a link, a device"),
        (lambda: zip_of(("a", b"secret"), flags=0x1), "is encrypted"),
        (lambda: zip_of(("a", b"1"), ("a", b"2")), "twice"),
        (lambda: zip_of(("Model", b"1"), ("model", b"2")), "twice"),
        (lambda: zip_of(("a", b"1"), ("a/b", b"2")), "below something that is a file"),
        (lambda: zip_of(("a/b", b"2"), ("A", b"1")), "below something that is a file"),
        (lambda: zip_of(("zeros", bytes(40_000_000))), "times as many"),
        (lambda: bomb(), "times as many"),
        (lambda: with_size(999), "no whole zip"),
        (lambda: with_size(1001), "no whole zip|it says"),
        (lambda: a_million_entries(), "more than 20,000 files"),
        (lambda: zip_of(*((f"f{n}", b"") for n in range(20_001))), "holds 20,001 files"),
        (lambda: zip_of(("a", os.urandom(5000)))[:3000], "no whole zip"),
        (lambda: zip_of(("a", os.urandom(5000))).replace(b"PK\x03\x04", b"PK\x03\x05"), "no whole zip"),
        (lambda: b"", "no whole zip"),
        (lambda: b"<html>not found</html>", "no whole zip"),
    ],
)  # fmt: skip
def test_a_zip_that_is_spoilt_or_unsafe_writes_nothing(tmp_path, make, message):
    data, start = make(), time.process_time()
    said, left = refusal(tmp_path, data)
    assert time.process_time() - start < 2
    assert re.search(message, said)
    assert left == {"in.zip"}


def refusal(tmp_path: Path, data: bytes) -> tuple[str, set[str]]:
    """The one line that refuses a zip, and what then lies where it should be unpacked."""
    (tmp_path / "in.zip").write_bytes(data)
    with pytest.raises(DataError) as caught:
        unpack(tmp_path / "in.zip", tmp_path / "out")
    assert caught.value.exit_code == 4
    assert "\n" not in str(caught.value)
    return str(caught.value), everything(tmp_path)


def test_a_flipped_byte_is_found_and_leaves_nothing(run, tmp_path):
    data = bytearray(pack(run, tmp_path / "run.zip").path.read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "run.zip").write_bytes(data)
    before = everything(tmp_path)
    with pytest.raises(DataError, match="no whole zip"):
        unpack(tmp_path / "run.zip", tmp_path / "out")
    assert everything(tmp_path) == before


def test_limits_count_the_real_bytes(run, tmp_path):
    packed = pack(run, tmp_path / "run.zip")
    for limits in (Limits(max_bytes=packed.raw_bytes - 1), Limits(max_files=packed.files - 1)):
        with pytest.raises(DataError, match="more than the"):
            unpack(packed.path, tmp_path / "out", limits=limits)
    assert unpack(packed.path, tmp_path / "out", limits=Limits(packed.files, packed.raw_bytes)).files == packed.files


def test_nothing_is_overwritten(run, tmp_path):
    packed = pack(run, tmp_path / "run.zip")
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for target in (tmp_path / "mine", tmp_path / "mine" / "thesis.txt"):
        with pytest.raises(DataError, match="not empty"):
            unpack(packed.path, target)
    assert everything(tmp_path / "mine") == {"thesis.txt"}
    (tmp_path / "empty").mkdir()
    assert unpack(packed.path, tmp_path / "empty").files == packed.files
    with pytest.raises(DataError, match="no such file"):
        unpack(tmp_path / "absent.zip", tmp_path / "new")
