"""Studies in settings: which points come out, and that everything wrong is said before one starts."""

from pathlib import Path

import pytest

from ftkit.config import find_recipe, resolve
from ftkit.config.catalogue import load_recipe
from ftkit.config.launch import main_settings
from ftkit.config.resolve import read_flags
from ftkit.config.sweeps import Study, find_study
from ftkit.errors import ConfigError

SETTINGS = main_settings(load_recipe(find_recipe("pretrain")).main)


def study_of(*argv: str) -> Study:
    study = find_study(SETTINGS, "pretrain", argv)
    assert study is not None
    return study


def config(folder: Path, text: str) -> str:
    path = folder / "study.yaml"
    path.write_text("recipe: pretrain\ncorpus: a.txt\n" + text, encoding="utf-8")
    return f"--config={path}"


def refused(*argv: str) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        find_study(SETTINGS, "pretrain", argv)
    return str(caught.value).split("\n")


def test_keys_are_a_factorial_and_each_seed_has_every_arm():
    argv = ["--corpus", "a.txt", "--sweep", "learning_rate=1e-2,1e-3", "--sweep=max_grad_norm=0,1", "--seeds", "7,8"]
    points = study_of(*argv).points
    found = [(p.settings.learning_rate, p.settings.max_grad_norm, p.seed) for p in points]
    assert found == [(r, n, s) for s in (7, 8) for r in (0.01, 0.001) for n in (0, 1)]
    assert len({p.name for p in points}) == 8
    assert len({p.arm for p in points}) == 4


def test_arms_differ_in_what_they_say_and_in_nothing_else(tmp_path):
    text = "weight_decay: 0.5\narms:\n  baseline: {}\n  clip: {max_grad_norm: 1.0, weight_decay: 0.1}\n"
    plain, clip = study_of(config(tmp_path, text)).points
    assert (plain.arm, clip.arm) == ("baseline", "clip")
    before, after = plain.settings.model_dump(), clip.settings.model_dump()
    assert {key for key in before if before[key] != after[key]} == {"max_grad_norm", "weight_decay"}
    assert before["weight_decay"] == 0.5


def test_a_point_is_told_what_a_run_alone_would_be_told():
    argv = ["--fast", "--max_steps", "5"]
    point = study_of(*argv, "--sweep", "learning_rate=1e-2,0.5").points[1]
    alone = resolve(SETTINGS, "pretrain", read_flags(SETTINGS, [*argv, "--learning_rate", "0.5"])).settings
    assert point.settings == alone


def test_what_a_study_writes_down_gives_the_same_points(tmp_path):
    text = (
        "learning_rate: 0.25\narms: {a: {}, b: {learning_rate: 0.5}}\nsweep: {train: [mlp, 'norm,bias']}\nseeds: [1, 2]"
    )
    first = study_of(config(tmp_path, text), "--fast")
    import yaml

    again = tmp_path / "again.yaml"
    values = {"recipe": "pretrain", **first.settings.model_dump(mode="json", exclude={"resume"})}
    again.write_text(yaml.safe_dump(values), encoding="utf-8")
    assert study_of(f"--config={again}").points == first.points


def test_fast_bounds_the_steps_and_passes_of_arms_and_leaves_all_else(tmp_path):
    path = tmp_path / "study.yaml"
    arms = ("long: {max_steps: 476, learning_rate: 1e-5}", "often: {num_train_epochs: 9.7}", "short: {max_steps: 3}")
    path.write_text("recipe: finetune\narms:\n" + "".join(f"  {arm}\n" for arm in arms), encoding="utf-8")
    finetune = main_settings(load_recipe(find_recipe("finetune")).main)
    fast, whole = (find_study(finetune, "finetune", [f"--config={path}", *more]) for more in (["--fast"], []))
    settings = {point.arm: point.settings for point in fast.points}
    assert [settings[name].max_steps for name in ("long", "short")] == [20, 3]
    assert (settings["often"].num_train_epochs, settings["often"].max_steps) == (0.5, 500)
    assert settings["long"].learning_rate == 1e-5
    assert [point.settings.max_steps for point in whole.points] == [476, 500, 3]


def test_fast_brings_blocks_and_steps_of_arms_into_the_tiny_run_and_leaves_a_model_that_is_named(tmp_path):
    path = tmp_path / "study.yaml"
    path.write_text("recipe: finetune\narms:\n  late: {train: attention@6.., freeze_until: {attention@7: 300}}\n")
    finetune = main_settings(load_recipe(find_recipe("finetune")).main)

    def late(*more: str) -> tuple[str, dict[str, int]]:
        [point] = find_study(finetune, "finetune", [f"--config={path}", "--fast", *more]).points
        return point.settings.train, point.settings.freeze_until

    assert late() == ("attention@1..", {"attention@1": 19})
    assert late("--model", "FOLDER") == ("attention@6..", {"attention@7": 19})


def test_a_list_of_values_may_hold_commas():
    points = study_of("--corpus", "a.txt", "--sweep", "train=mlp|attention.q,attention.k|none").points
    assert [point.settings.train for point in points] == ["mlp", "attention.q,attention.k", None]


def test_folders_are_plain_and_different(tmp_path):
    text = "arms: {'a/b': {}, 'a b': {max_steps: 2}, 'A_b': {max_steps: 3}, '..': {max_steps: 4}}"
    names = [point.name for point in study_of(config(tmp_path, text)).points]
    assert names == ["a_b", "a_b-2", "A_b-3", "arm"]


def test_everything_wrong_is_said_together_with_its_place(tmp_path):
    text = "arms:\n  one: {learning_rte: 1}\n  two: {max_steps: 0}\nseeds: [1, x]\n"
    lines = refused(config(tmp_path, text), "--sweep", "max_grad_norm=-1,1", "--weigt_decay", "1")
    path = tmp_path / "study.yaml"
    assert lines[0].endswith("unknown setting; did you mean 'weight_decay'?")
    assert f"{path}:4: arms.one.learning_rte: unknown setting; did you mean 'learning_rate'?" in lines
    assert f"{path}:5: arms.two.max_steps: is 0; it must be at least 1" in lines
    assert "--sweep max_grad_norm: is -1; it must be at least 0" in lines
    assert f"{path}:6: seeds: is 'x' (text); it must be a whole number" in lines


def test_a_problem_of_one_point_names_the_point():
    lines = refused("--corpus", "a.txt", "--lr_cycles", "2", "--sweep", "lr_scheduler_type=cosine,linear")
    text = "--lr_cycles: has no effect with lr_scheduler_type: linear; set lr_scheduler_type to cosine, or leave it out"
    assert lines == [f"{text} (at the point lr_scheduler_type=linear)"]


@pytest.mark.parametrize(
    ("argv", "said"),
    [
        (["--sweep", "output_dir=a,b"], "cannot differ between points: every point has its own folder"),
        (["--sweep", "resume=true,false"], "'ftkit resume STUDY' goes on"),
        (["--sweep", "seed=1,2"], "repeats are given as seeds"),
        (["--sweep", "learning_rate=1e-3,0.001"], "each value once"),
        (["--seeds", "1,1"], "each seed once"),
        (["--sweep", "learning_rate"], "takes name=value,value, found 'learning_rate'"),
        (["--sweep", "learning_rate="], "needs a list of values"),
        (["--sweep", "corpora=a"], "sweep it with arms"),
        (["--sweep", "learning_rat=1,2"], "did you mean 'learning_rate'?"),
    ],
)
def test_what_cannot_be_swept_is_refused(argv, said):
    assert said in "\n".join(refused("--corpus", "a.txt", *argv))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("sweep: {learning_rate: 0.1}", "study.yaml:3: sweep.learning_rate: is 0.1; a sweep needs a list of values"),
        ("sweep: [1]", "study.yaml:3: sweep: is [1]; it must be lines of name: [value, value]"),
        ("arms: {a: 3}", "arms.a: is 3; an arm is lines of setting: value"),
        ("seeds: 3", "seeds: is 3; it must be a list of whole numbers"),
        ("arms: {a: {max_steps: 2}}\nsweep: {max_steps: [1, 2]}", "is set by an arm too"),
    ],
)
def test_the_form_of_a_study_is_checked(tmp_path, text, said):
    assert said in "\n".join(refused(config(tmp_path, text)))


def test_one_run_is_no_study_and_a_study_is_no_run(tmp_path):
    assert find_study(SETTINGS, "pretrain", ["--corpus", "a.txt"]) is None
    flags = read_flags(SETTINGS, [config(tmp_path, "seeds: [1, 2]")])
    with pytest.raises(
        ConfigError, match=r"seeds: makes several runs, a study; start it with 'ftkit run .*study.yaml'"
    ):
        resolve(SETTINGS, "pretrain", flags)
