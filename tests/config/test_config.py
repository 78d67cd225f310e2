"""Settings: strict, all problems at once, with file and line, before torch."""

from pathlib import Path

import pytest

from ftkit.config import AdapterSettings, TrainingSettings, find_recipe, list_entries, resolve, tiny_of
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.other_names import RENAMED, SAME, own_name, unknown_setting
from ftkit.config.resolve import read_flags
from ftkit.config.sweeps import find_study
from ftkit.config.yaml_files import parse_scalar, read_yaml
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
        ("model: base:tales\ntrust_remote_code: true\n", "has no effect on 'base:tales'"),
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
        ("base:tales", "new:ftkit_gpt2"),
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


@pytest.mark.parametrize(("other", "value"), [("epochs", 3), ("lr", 0.5), ("grad_clip", 2), *((o, 1) for o in RENAMED)])
def test_a_setting_of_another_name_is_taken_from_flags_files_arms_and_sweeps(tmp_path, other, value):
    name = own_name(other, AdapterSettings.model_fields)
    assert name != other
    path = tmp_path / "c.yaml"
    path.write_text(f"model: m\nlr_scheduler_type: linear\n{other}: {value}\n")
    common = ["--model", "m", "--lr_scheduler", "linear"]
    for argv in (["--config", str(path)], [*common, f"--{other.replace('_', '-')}", str(value)]):
        flags = read_flags(AdapterSettings, argv)
        assert getattr(resolve(AdapterSettings, "example", flags).settings, name) == value
    path.write_text(f"model: m\nlr_scheduler_type: linear\narms:\n  a: {{{other}: {value}}}\n  b: {{}}\n")
    for argv in (["--config", str(path)], [*common, "--sweep", f"{other}={value}"]):
        study = find_study(AdapterSettings, "example", argv)
        assert getattr(study.points[0].settings, name) == value


def test_one_setting_under_two_names_is_a_duplicate_key(tmp_path):
    said = complaint(tmp_path, "model: m\nlr: 1.0\nlearning_rate: 2.0\narms:\n  a: {wd: 1, weight_decay: 2}\n")
    assert said.splitlines() == [
        f"{tmp_path}/c.yaml:2: lr and learning_rate are one setting; keep one of them",
        f"{tmp_path}/c.yaml:5: arms.a.wd and arms.a.weight_decay are one setting; keep one of them",
    ]


def test_a_value_of_another_name_is_refused_at_its_line(tmp_path):
    assert complaint(tmp_path, "model: m\n\nlr: fast\n") == (
        f"{tmp_path}/c.yaml:3: learning_rate: is 'fast' (text); it must be a number"
    )


RECIPES = {
    entry.name: main_settings(load_recipe(entry.path).main).model_fields
    for entry in list_entries()
    if entry.kind == "recipe"
}


def test_no_other_name_hides_a_setting_and_each_is_known_somewhere():
    every = {name for fields in RECIPES.values() for name in fields}
    assert len(SAME) > 80
    assert {name for name in SAME if not {*SAME[name]} <= every} == set()
    assert {name for name in SAME if name in every} == {"patience"}  # of classify, which stops by it


@pytest.mark.parametrize(
    ("recipe", "name", "said"),
    [
        ("finetune", "fp32", "float32 is the default: leave bf16 and fp16 out"),
        ("finetune", "examples", "this recipe takes --corpus FILE; for --examples: ftkit run sft --examples ..."),
        ("finetune", "dataset", "this recipe takes --corpus hub:NAME or FILE"),
        ("imitate", "text", "this recipe takes --corpora NAME=FILE"),
        ("sft", "data", ""),
        ("classify", "train_file", ""),
        ("classify", "epochs", "this recipe counts updates: --max_steps; 'ftkit plan' shows the epochs"),
        ("finetune", "qwertz", "--help-all shows all settings"),
    ],
)
def test_a_name_that_is_not_taken_has_one_line_with_what_to_do(recipe, name, said):
    if not said:
        assert own_name(name, RECIPES[recipe]) in ("examples", "labelled")
        return
    assert own_name(name, RECIPES[recipe]) not in RECIPES[recipe]
    assert unknown_setting(name, RECIPES[recipe]) == f"unknown setting; {said}"


def test_a_file_without_a_setting_is_answered_with_the_setting_for_texts():
    settings_class = main_settings(load_recipe(find_recipe("sft")).main)
    [said] = read_flags(settings_class, ["chats.jsonl"]).problems
    assert said == "'chats.jsonl': a setting is given as --name value, e.g. --examples chats.jsonl"


def test_an_unknown_name_is_answered_with_three_names_at_most():
    found = unknown_setting("stepps", RECIPES["finetune"])
    assert found == "unknown setting; did you mean 'max_steps' or 'save_steps' or 'eval_steps'?"
    with pytest.raises(ConfigError, match=r"^unknown recipe 'qwertz'; 'ftkit list' shows all names$"):
        find_recipe("qwertz")
    assert find_recipe("code-completion").stem == "code_completion"


def test_recorded_configurations_have_todays_names():
    paths = sorted((Path(__file__).parents[2] / "docs" / "evidence").glob("*/config.yaml"))
    assert len(paths) > 20
    for path in paths:
        entry = read_yaml(path).values["recipe"]
        settings_class = main_settings(load_recipe(find_recipe(entry)).main)
        flags = ["--config", str(path)]
        study = find_study(settings_class, entry, flags)
        assert study.points if study else resolve(settings_class, entry, read_flags(settings_class, flags)), path
