"""Every mistake in a configuration ends with 2, names file, line and key, and costs no second."""

import os
import random
import resource
import subprocess
import sys
import typing
from pathlib import Path

import pytest
import trials
from pydantic.fields import FieldInfo

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.errors import ConfigError

PRETRAIN = main_settings(load_recipe(find_recipe("pretrain")).main)
WRONG = {
    bool: ("yes", "1", "[true]", "nope"),
    int: ("many", "1.5", "[1]", "true", ".nan", "1e3", "{a: 1}", "-7"),
    float: ("fast", "[1]", ".nan", ".inf", "-.inf", "{a: 1}", "-3", "1e999"),
    str: ("3", "{a: b}", "1.5"),
    dict: ("3", "text", "[a]"),
    list: ("3.5", "{a: 1}", "true"),
}


def complaint(path: Path, content: str | bytes) -> str:
    """What is said about a configuration of pretrain that is wrong."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ConfigError) as caught:
        resolve(PRETRAIN, "pretrain", read_flags(PRETRAIN, ["--config", str(path)]))
    assert caught.value.exit_code == 2
    return str(caught.value)


def wrong_values(field: FieldInfo) -> tuple[str, ...]:
    """YAML that a field cannot take, by the kind of its default."""
    if typing.get_origin(field.annotation) is typing.Literal:
        return ("nonsense", "3", "[a]")
    kind = type(field.get_default(call_default_factory=True))
    bounded = any(hasattr(limit, "ge") or hasattr(limit, "gt") for limit in field.metadata)
    return tuple(value for value in WRONG.get(kind, ()) if bounded or not value.startswith("-"))


def mutations(draw: random.Random):
    """Files with one mistake each: their text, the line of the mistake and the key; ``None`` where there is none."""
    for key, field in PRETRAIN.model_fields.items():
        before = draw.randrange(5)
        head = "# a comment\n" * before + ("" if key == "corpus" else "corpus: voices:keeper\n")
        line = head.count("\n") + 1
        for value in wrong_values(field):
            yield f"{head}{key}: {value}\n", line, key
        misspelt = key[:-1] + draw.choice("qxz")
        yield f"{head}{misspelt}: 1\n", line, misspelt
        yield f"{head}seed: 1\n{'' if key == 'seed' else f'{key}: null'}\n{key}: null\n", line + 2, key
        for value in ("!!python/name:os.system", "!!python/object/apply:os.system [ls]", "&a x", "*a", "!!int 3"):
            yield f"{head}{key}: {value}\n", line, None
        yield f"{head}\t{key}: 1\n", line, None
        yield f"{head}{key}: [1\n", None, None


def test_every_mistake_is_told_with_file_line_and_key(tmp_path):
    path, tried = tmp_path / "c.yaml", 0
    for text, line, key in mutations(random.Random(0)):
        said = complaint(path, text)
        place = f"{path}:{line}: " if line else f"{path}:"
        assert place in said, text
        if key:
            assert any(entry.startswith(place) and key in entry[len(place) :] for entry in said.split("\n")), text
        tried += 1
    assert tried > 600


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("", "corpus: give either corpus or corpora"),
        ("\n# nothing\n", "corpus: give either corpus or corpora"),
        ("- corpus\n- model\n", ":1: contains a list"),
        ("corpus\n", ":1: contains a single value"),
        ("a: " + "x" * 2**20, "has 1,048,579 bytes; a configuration has at most 262,144"),
        ("a: [" * 20_000, "has more than 20 levels"),
        ("a: " + "[" * 3000, "has more than 20 levels"),
        ("&a [x, x]: 1\n" * 3, "anchors and aliases"),
        (b"corpus: \xff\xfe\n", "is not UTF-8: byte 8 is 0xff"),
        (b"corpus: a\0b\n", "is not valid YAML"),
        ("corpus: 'a\n", ":2: is not valid YAML"),
        ("? [a, b]\n: 1\n", ":1: a key must be a plain name"),
        ("corpus: a\n--- \ncorpus: b\n", ":2: is not valid YAML"),
        ("%YAML 9.9\n---\ncorpus: a\n", "is not valid YAML"),
    ],
)
def test_a_file_that_is_no_configuration_is_told_from_one(tmp_path, content, said):
    assert said in complaint(tmp_path / "c.yaml", content)


@pytest.mark.parametrize("cases", [200, pytest.param(4000, marks=pytest.mark.nightly)])
def test_random_damage_to_a_configuration_is_harmless_or_told(tmp_path, cases):
    draw, path, refused = random.Random(cases), tmp_path / "c.yaml", 0
    good = (find_recipe("pretrain").parent / "configs" / "pretrain_model5_small.yaml").read_bytes()
    for _ in range(cases):
        path.write_bytes(trials.mutated(good, draw))
        try:
            resolve(PRETRAIN, "pretrain", read_flags(PRETRAIN, ["--config", str(path)]))
        except ConfigError as error:
            refused += 1
            assert str(path) in str(error) or "tokenizer" in str(error) or "corpus" in str(error)
    assert cases / 2 < refused


@pytest.mark.parametrize("content", ["max_steps: many\n", "a: &x [1]\n", "\tcorpus: a\n", "- 1\n", ""])
def test_the_command_takes_a_moment_and_no_torch(tmp_path, content):
    path = tmp_path / "c.yaml"
    path.write_text(content)
    code = (
        "import sys, atexit\natexit.register(lambda: print('torch' in sys.modules))\n"
        f"sys.argv = ['ftkit', 'run', 'pretrain', '--config', {str(path)!r}]\nfrom ftkit.cli import main\nmain()\n"
    )
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env={**os.environ})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert (done.returncode, done.stdout.strip()) == (2, "False")
    assert "Traceback" not in done.stderr
    # Processor seconds: alone 0.7; beside other tests, which share the processor's caches, up to twice as many.
    assert after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime < 3.0
