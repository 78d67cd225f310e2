"""Settings: strict, all problems at once, with file and line, before torch."""

from pathlib import Path

import pytest

from ftkit.config import AdapterSettings, TrainingSettings, find_recipe, list_entries, resolve, tiny_of
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.reading import parse_scalar, read_yaml
from ftkit.config.resolve import read_flags
from ftkit.config.settings import RENAMED
from ftkit.config.sweeps import find_study
from ftkit.errors import ConfigError


class Example(TrainingSettings):
    corpora: dict[str, str] = {}
    """Texts by name."""


def settle(tmp_path: Path, text: str = "", *argv: str) -> Example:
    """Resolve a file and flags."""
    path = tmp_path / "c.yaml"
    path.write_text(text, encoding="utf-8")
    return resolve(Example, "example", read_flags(Example, ["--config", str(path), *argv])).settings


def complaint(tmp_path: Path, text: str, *argv: str) -> str:
    with pytest.raises(ConfigError) as caught:
        settle(tmp_path, text, *argv)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1e-5", 1e-5), ("3", 3), ("-2.5", -2.5), ("1_000", 1000), ("true", True), ("yes", "yes"), ("off", "off"),
        ("null", None), ("a b", "a b"), ("0x1f", 31), ("1.e3", 1000.0), ("2026-11-28", "2026-11-28"), ("", None),
    ],
)  # fmt: skip
def test_scalars_follow_yaml_1_2(text, value):
    found = parse_scalar(text)
    assert found == value
    assert type(found) is type(value)


def test_later_layers_win(tmp_path):
    settings = settle(tmp_path, "model: some-model\nlearning_rate: 1e-4\nmax_steps: 7\n", "--max_steps", "9")
    assert (settings.learning_rate, settings.max_steps, settings.weight_decay) == (1e-4, 9, 0.01)


def test_fast_lies_between_file_and_flags(tmp_path):
    pretrain = main_settings(load_recipe(find_recipe("pretrain")).main)
    path = tmp_path / "c.yaml"
    path.write_text("corpus: a.txt\nmax_steps: 999\nmodel: EleutherAI/gpt-neo-125m\n")
    fast = resolve(
        pretrain, "pretrain", read_flags(pretrain, ["--config", str(path), "--fast", "--seed", "5"])
    ).settings
    assert fast.max_steps == pretrain.FAST["max_steps"] != 999
    assert fast.seed == 5
    assert fast.model == "new:gpt_neo"


def test_all_problems_are_shown_at_once_with_their_lines(tmp_path):
    text = complaint(
        tmp_path,
        "learning_rate: fast\nmax_step: 3\nmodel: m\nbf16: yes\nmax_grad_norm: -1\n"
        "lr_scheduler_type: cosin\ncorpora:\n  a: 3\n",
        "--sead", "3",
    )  # fmt: skip
    assert text.count("\n") == 6
    assert "c.yaml:1: learning_rate: is 'fast' (text); it must be a number" in text
    assert "c.yaml:2: max_step: unknown setting; did you mean 'max_steps'?" in text
    assert "c.yaml:4: bf16: is 'yes' (text); it must be true or false" in text
    assert "c.yaml:5: max_grad_norm: is -1; it must be at least 0" in text
    assert "did you mean 'cosine'?" in text
    assert "c.yaml:8: corpora.a: is 3 (a whole number); it must be text" in text
    assert text.startswith("--sead: unknown setting; did you mean 'seed'?")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("seed: 1\nseed: 2\n", "c.yaml:2: duplicate key 'seed' in lines 1 and 2"),
        ("a: &x 1\nb: *x\n", "anchors and aliases"),
        ("a: !!python/object:os.system x\n", "tag"),
        ("- 1\n- 2\n", "contains a list"),
        ("seed: [1\n", "not valid YAML"),
        ("seed: .nan\n", "it must be a whole number"),
        ("learning_rate: .inf\n", "finite"),
        ("model: m\nmuon_learning_rate: 0.1\n", "has no effect with optimizer: adamw"),
        ("model: m\nwarmup_steps: 900\n", "longer than the run"),
        ("bf16: true\nfp16: true\nmodel: m\n", "exclude each other"),
        ("recipe: other\nmodel: m\n", "is for the recipe 'other'"),
        ("model: new:gpt2\n", "no tokenizer of its own"),
        ("model: new:gpt2\ntokenizer: byte\nallow_pickle: true\n", "has no effect on 'new:gpt2', which is made here"),
        ("model: base:demo_base\ntrust_remote_code: true\n", "has no effect on 'base:demo_base'"),
    ],
)
def test_one_mistake_has_one_clear_message(tmp_path, text, said):
    message = complaint(tmp_path, text)
    assert said in message
    assert "c.yaml" in message or "tokenizer" in message


def test_files_that_are_no_configuration(tmp_path):
    path = tmp_path / "c.yaml"
    for content, message in (
        (b"\xff\xfe\x00", r"c\.yaml: is not UTF-8: byte 0 is 0xff"),
        (b"a: " + b"x" * 300_000, r"c\.yaml: has 300,003 bytes"),
        (b"[" * 200_000, r"c\.yaml:1: .*has more than 20 levels"),
        (b"a: " + b"{b: " * 30 + b"}" * 30, r"c\.yaml:1: .*has more than 20 levels"),
    ):
        path.write_bytes(content)
        with pytest.raises(ConfigError, match=message):
            read_yaml(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        read_yaml(tmp_path)


def test_flags_give_maps_switches_and_negations(tmp_path):
    settings = settle(
        tmp_path, "model: m\nbf16: true\n", "--corpora", "a=b=c", "--corpora", "d=e", "--no-bf16", "--use_cpu"
    )
    assert settings.corpora == {"a": "b=c", "d": "e"}
    assert (settings.bf16, settings.use_cpu) == (False, True)


def test_every_config_of_the_package_names_its_recipe_and_question_and_resolves():
    entries = list_entries()
    configs = [entry for entry in entries if entry.kind == "config"]
    assert {"demo", "pretrain_model5", "pretrain_model5_small", "style_evolution", "style_evolution_small"} <= {
        e.name for e in configs
    }
    for entry in configs:
        settings_class = main_settings(load_recipe(find_recipe(entry.recipe)).main)
        flags = ["--config", entry.name]
        study = find_study(settings_class, entry.recipe, flags)
        assert study.points if study else resolve(settings_class, entry.recipe, read_flags(settings_class, flags))
        assert entry.question.endswith("?") or entry.question.endswith(")"), entry.name


def test_every_setting_of_every_recipe_is_explained():
    recipes = [entry for entry in list_entries() if entry.kind == "recipe"]
    assert {"imitate", "pretrain"} <= {entry.name for entry in recipes}
    for entry in recipes:
        for name, field in main_settings(load_recipe(entry.path).main).model_fields.items():
            assert field.description, f"{entry.name}: {name}"


@pytest.mark.parametrize(
    ("model", "tiny"),
    [
        ("EleutherAI/gpt-neo-125m", "new:gpt_neo"),
        ("openai-community/gpt2-medium", "new:gpt2"),
        ("Salesforce/codegen-350M-mono", "new:codegen"),
        ("google-bert/bert-base-uncased", "new:bert"),
        ("new:gpt2,num_hidden_layers=3", "new:gpt2"),
        ("new:ftkit_ladder,rung=3,hidden_size=192", "new:ftkit_ladder,rung=3"),
        ("base:demo_base", "new:ftkit_gpt2"),
    ],
)
def test_fast_keeps_the_family(model, tiny):
    assert tiny_of(model) == tiny


def test_no_configuration_has_the_name_of_a_recipe_or_of_another():
    names = [entry.name for entry in list_entries()]
    assert len(names) > 10
    assert len(names) == len(set(names))


def test_selectors_as_flags_add_up_and_may_hold_an_equals_sign():
    given = read_flags(
        TrainingSettings,
        ["--train", "attention", "--train", "norm", "--freeze_until", "embedding[rows=5]=2", "--freeze", "mlp"],
    )
    assert given.problems == []
    assert given.values["train"] == ["attention", "norm"]
    assert given.values["freeze"] == "mlp"
    assert given.values["freeze_until"] == {"embedding[rows=5]": 2}


@pytest.mark.parametrize(("old", "new"), RENAMED.items())
def test_an_old_name_of_a_setting_is_an_error_with_the_new_name(tmp_path, old, new):
    said = f"{old} is now {new}"
    path = tmp_path / "c.yaml"
    for text, place in ((f"seeds: [1]\n{old}: 1\n", old), (f"arms:\n  a: {{{old}: 2}}\n", f"arms.a.{old}")):
        path.write_text(text)
        with pytest.raises(ConfigError) as caught:
            find_study(AdapterSettings, "example", ["--config", str(path), f"--{old.replace('_', '-')}", "3"])
        assert str(caught.value).split("\n")[-1] == f"{path}:2: {place}: {said}"
        assert f"--{old}: {said}" in str(caught.value)
    assert new in AdapterSettings.model_fields


def test_recorded_configurations_have_todays_names():
    paths = sorted((Path(__file__).parents[2] / "docs" / "evidence").glob("*/config.yaml"))
    assert len(paths) > 20
    for path in paths:
        entry = read_yaml(path).values["recipe"]
        settings_class = main_settings(load_recipe(find_recipe(entry)).main)
        flags = ["--config", str(path)]
        study = find_study(settings_class, entry, flags)
        assert study.points if study else resolve(settings_class, entry, read_flags(settings_class, flags)), path
