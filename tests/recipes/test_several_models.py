"""Several tuned models are judged against one base, which is measured once; each gets what it gets alone."""

import inspect
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM

import ftkit
from ftkit.cli.verdict import verdict as command
from ftkit.data import load_examples, load_tokenizer, split_examples, tokenize_examples, voice_text
from ftkit.errors import ConfigError, DataError, ModelError
from ftkit.evidence import Comparison, answers
from ftkit.generation import PRESETS, generate_passages
from ftkit.jobs import judged_models
from ftkit.jobs.example_verdicts import ExampleVerdictRequest, judge_examples, judge_several_examples
from ftkit.jobs.verdicts import SeveralJudged, VerdictRequest, _named, judge_models, judge_several
from ftkit.models import load_model, save_model
from ftkit.models.adapter_files import wrap

NAMES = ("lora", "whole", "other")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A base, an adapter of it, two whole models, one with virtual tokens, text, and pairs."""
    from peft import LoraConfig, PromptTuningConfig

    path = tmp_path_factory.mktemp("several")
    tokenizer = load_tokenizer("byte")
    base = load_model("new:gpt2,n_embd=32,n_layer=2,n_head=2", vocab_size=257, max_positions=128, seed=1)
    save_model(base, tokenizer, path / "base")
    for seed, name in enumerate(NAMES):
        model: Any = load_model(str(path / "base"))
        if name == "lora":
            config = LoraConfig(r=4, target_modules=["c_attn"], fan_in_fan_out=True, task_type="CAUSAL_LM")
            model = wrap(model, config, None, None)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.requires_grad:
                    parameter.add_(0.05 * torch.randn_like(parameter))
        model.save_pretrained(path / name)
        tokenizer.save_pretrained(path / name)
    virtual = PromptTuningConfig(num_virtual_tokens=60, task_type="CAUSAL_LM")
    wrap(load_model(str(path / "base")), virtual, None, None).save_pretrained(path / "virtual")
    (path / "text.txt").write_text(voice_text("keeper", 2000, seed=1))
    (path / "general.txt").write_text(voice_text("letters", 1000, seed=1))
    pairs = [json.dumps({"prompt": f"Say {n}.", "completion": f" It is {n}."}) for n in range(60)]
    (path / "pairs.jsonl").write_text("\n".join(pairs))
    return path


def asked(folder: Path, tuned: str) -> VerdictRequest:
    """A small verdict."""
    return VerdictRequest(
        str(folder / "base"), str(folder / tuned), str(folder / "text.txt"), general=str(folder / "general.txt"),
        num_passages=30, passage_chars=40, window_tokens=64, eval_windows=16,
    )  # fmt: skip


@pytest.fixture
def counted(monkeypatch: pytest.MonkeyPatch) -> dict[str, list[Any]]:
    """Models that are loaded, and texts on which the loss of a base is taken."""
    seen: dict[str, list[Any]] = {"loaded": [], "losses of the base": []}

    def load(spec: str, **options: Any) -> Any:
        seen["loaded"].append(Path(spec).name)
        return load_model(spec, **options)

    def loss(self: Comparison, model: Any, store: Any, *arguments: Any) -> Any:
        if model is not self.tuned:
            seen["losses of the base"].append(store)
        return plain(self, model, store, *arguments)

    plain = Comparison.loss
    monkeypatch.setattr(judged_models, "load_model", load)
    monkeypatch.setattr(Comparison, "loss", loss)
    return seen


def test_each_model_gets_what_it_gets_alone_and_the_base_is_measured_once(folder, tmp_path, counted):
    models = {name: str(folder / name) for name in NAMES}
    several = judge_several(asked(folder, NAMES[0]), models, tmp_path / "all")
    assert counted["loaded"] == ["lora", "whole", "base", "other"]
    assert len(counted["losses of the base"]) == 3, "held-out, general and training text"
    for name, found in several.models.items():
        alone = judge_models(asked(folder, name), tmp_path / name)
        assert json.dumps(found.as_dict()["evidence"]) == json.dumps(alone.as_dict()["evidence"])
        assert found.verdict == alone.verdict
    assert list(several.as_dict()["models"]) == list(NAMES)
    *_, heads, first, second, third = str(several).splitlines()
    assert heads.split("  ")[0] == "model"
    assert [row.split()[0] for row in (first, second, third)] == list(NAMES)
    page = several.save_report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Side by side" in page
    assert "Gain against forgetting" in page


def test_python_judges_several_and_one_as_before(folder, tmp_path, counted):
    options: Any = {"general": folder / "general.txt", "num_passages": 30, "passage_chars": 40, "window_tokens": 64}
    several = ftkit.verdict(
        folder / "base", [folder / "whole", str(folder / "other")], folder / "text.txt", eval_windows=16, **options
    )
    assert counted["loaded"] == ["whole", "base", "other"]
    assert list(several.models) == ["whole", "other"]
    one = ftkit.verdict(folder / "base", folder / "whole", folder / "text.txt", eval_windows=16, **options)
    assert one.as_dict() == several.models["whole"].as_dict()
    held = several.models["other"]
    page = several.save_report(tmp_path / "report.html").read_text(encoding="utf-8")
    assert "Side by side" in page
    del several
    assert held.folder.is_dir()  # one of its models is still in use
    assert "<h3>a &amp; b</h3>" in SeveralJudged({"a & b": one}, {}, one.folder)._repr_html_()


def test_python_names_models_and_refuses_none_or_one_twice(folder):
    loaded = load_model(str(folder / "base"))
    assert list(_named([folder / "lora", loaded])[1]) == ["lora", "model 2"]
    assert list(_named({"long": folder / "lora", "short": loaded})[1]) == ["long", "short"]
    assert _named(folder / "lora") == (False, {"tuned": folder / "lora"})
    for wrong, said in (([], "is empty"), (["a", "a"], "takes different models")):
        with pytest.raises(ConfigError, match=said):
            ftkit.verdict("base", wrong, "text.txt")


def test_models_that_would_be_measured_on_other_windows_are_refused(folder, tmp_path):
    models = {name: str(folder / name) for name in ("whole", "virtual")}
    request = VerdictRequest(
        str(folder / "base"), "", str(folder / "text.txt"), [(folder / "text.txt").read_text()], num_passages=30,
        passage_chars=20, window_tokens=128,
    )  # fmt: skip
    with pytest.raises(
        ModelError, match=r"virtual: would be measured on windows of tokens: 68, .* on 128, .* set wind"
    ):
        judge_several(request, models, tmp_path)


def test_models_of_examples_get_what_they_get_alone_and_the_base_answers_once(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    request = ExampleVerdictRequest(
        str(folder / "base"), str(folder / "whole"), str(folder / "pairs.jsonl"), num_answers=6, few_shot=1
    )
    names, answered = ("whole", "other"), list[str]()

    def write(self: Any, model: Any, examples: Any, before: Any = None) -> Any:
        if len(before or ()) < len(examples):
            answered.append(Path(model.name_or_path).name)
        return plain(self, model, examples, before)

    plain = answers.AnswerWriter.write
    monkeypatch.setattr(answers.AnswerWriter, "write", write)
    several = judge_several_examples(request, {name: str(folder / name) for name in names}, tmp_path / "all")
    assert answered.count("base") == 4, "to held-out prompts, and to these after each of three draws of an example"
    for name, found in several.models.items():
        one = ExampleVerdictRequest(**(vars(request) | {"tuned": str(folder / name)}))
        assert found.as_dict() == judge_examples(one, tmp_path / name).as_dict()


def test_short_heldout_text_gets_as_many_windows_as_a_verdict_needs(folder, tmp_path):
    heldout = (folder / "text.txt").read_text()[:1_100]  # 17 windows of 64 bytes
    judged = judge_models(replace(asked(folder, "other"), heldout=[heldout], eval_windows=64), tmp_path / "verdict")
    assert judged.evidence.heldout.windows == 20
    assert any("tokens, so windows of 55 were taken" in text for text in judged.evidence.assumptions)


def test_both_models_continue_a_persons_own_prompts(folder, tmp_path):
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("The lamp was\n\n<b>At dawn</b>\n")
    request = replace(asked(folder, "other"), prompts=str(prompts))
    judged = judge_models(request, tmp_path / "verdict")
    found = judged.evidence.own_prompts.texts
    assert [(each.prompt, each.sampling) for each in found] == [
        ("The lamp was", "plain"), ("The lamp was", "focused"), ("<b>At dawn</b>", "plain"),
        ("<b>At dawn</b>", "focused"),
    ]  # fmt: skip
    model, tokenizer = load_model(str(folder / "other")), load_tokenizer(str(folder / "other"))
    alone = generate_passages(
        model, tokenizer, ["The lamp was", "<b>At dawn</b>"], new_tokens=60, sampling=PRESETS["focused"], seed=0
    )
    assert [each.tuned for each in found if each.sampling == "focused"] == [passage.text for passage in alone]
    page = judged.save_report(tmp_path / "out.html").read_text(encoding="utf-8")
    assert "Your prompts" in page
    assert "&lt;b&gt;At dawn&lt;/b&gt;" in page
    assert "<b>At dawn" not in page


@pytest.fixture
def more(folder: Path, tmp_path: Path) -> Any:
    """Saves the whole model with further tokens and a template; returns its folder."""

    def save(template: str | None = None, renamed: bool = False) -> Path:
        tokenizer: Any = load_tokenizer("byte")
        tokenizer.add_special_tokens({"pad_token": "[MORE]"})
        tokenizer.chat_template = template
        model: Any = load_model(str(folder / "whole"))
        model.resize_token_embeddings(len(tokenizer))
        model.save_pretrained(tmp_path / "more")
        tokenizer.save_pretrained(tmp_path / "more")
        if renamed:  # another token stands where the base has its end of text
            saved = tmp_path / "more" / "tokenizer.json"
            saved.write_text(saved.read_text().replace("<|endoftext|>", "<|other|>"))
            config = tmp_path / "more" / "tokenizer_config.json"
            config.write_text(config.read_text().replace("<|endoftext|>", "<|other|>"))
        return tmp_path / "more"

    return save


def of_pairs(folder: Path, tuned: Path) -> ExampleVerdictRequest:
    examples = str(folder / "pairs.jsonl")
    return ExampleVerdictRequest(str(folder / "base"), str(tuned), examples, num_answers=20, few_shot=1)


def test_a_further_token_that_no_example_has_changes_nothing(folder: Path, tmp_path: Path, more: Any) -> None:
    """Other tools add a padding token, for which the base has no row."""
    judged = judge_examples(of_pairs(folder, more()), tmp_path / "verdict")
    plain = judge_examples(of_pairs(folder, folder / "whole"), tmp_path / "plain")
    tuned, expected = judged.evidence.heldout.tuned.value, plain.evidence.heldout.tuned.value
    assert tuned == pytest.approx(expected, rel=1e-3), "the further row takes a little of the probability"
    assert any("gives the examples the same tokens" in text for text in judged.evidence.assumptions)


def test_the_base_reads_examples_by_its_own_template_where_it_lacks_the_tokens(
    folder: Path, tmp_path: Path, more: Any
) -> None:
    """As after TRL's ``setup_chat_format`` on a base: the floor is what the base makes of the same pairs as it can."""
    marked = "{% for turn in messages %}[MORE]{{ turn.content }}{{ eos_token }}{% endfor %}"
    marked += "{% if add_generation_prompt %}[MORE]{% endif %}"
    judged = judge_examples(of_pairs(folder, more(marked)), tmp_path / "verdict").evidence
    plain = judge_examples(of_pairs(folder, folder / "whole"), tmp_path / "plain").evidence
    said = "1 tokens that the base does not know ('[MORE]'), so the base is measured with another chat template: plain"
    assert any(said in text for text in judged.assumptions)
    assert judged.heldout.base == plain.heldout.base
    assert judged.measures["answers"].base == plain.measures["answers"].base
    assert judged.measures["few_shot"].base == plain.measures["few_shot"].base
    assert judged.heldout.tuned != plain.heldout.tuned
    tokenizer, model = load_tokenizer(str(tmp_path / "more")), AutoModelForCausalLM.from_pretrained(tmp_path / "more")
    nats, size = 0.0, 0
    for example in split_examples(load_examples(str(folder / "pairs.jsonl")), seed=42).heldout:
        (row,) = tokenize_examples([example], tokenizer)
        ids, labels = (torch.tensor([row[key]]) for key in ("input_ids", "labels"))
        nats += model(ids, labels=labels).loss.item() * sum(label >= 0 for label in row["labels"])
        size += len(example.completion.encode())
    assert judged.heldout.tuned.value == pytest.approx(nats / size / math.log(2), rel=1e-4)


def test_models_whose_tokens_differ_are_not_measured_in_one_anothers(folder: Path, tmp_path: Path, more: Any) -> None:
    """The text of both templates is the same; only one tokenizer has a token for its mark."""
    marked = "{% for turn in messages %}[MORE]{{ turn.content }}{{ eos_token }}{% endfor %}"
    tokenizer: Any = load_tokenizer("byte")
    tokenizer.chat_template = marked
    for name in ("base", "whole"):
        load_model(str(folder / name)).save_pretrained(tmp_path / name)
        tokenizer.save_pretrained(tmp_path / name)
    extended = more(marked)
    request = replace(of_pairs(folder, extended), base=str(tmp_path / "base"))
    judged = judge_examples(request, tmp_path / "verdict").evidence
    assert any("the base is measured with another chat template: the tokenizer's own" in t for t in judged.assumptions)
    plain = judge_examples(of_pairs(folder, extended), tmp_path / "plain").evidence
    assert judged.heldout.tuned == plain.heldout.tuned, "in its own tokens, whatever the base reads"
    assert judged.heldout.base != plain.heldout.base
    with pytest.raises(ModelError, match="another tokenizer, chat template or longest example"):
        judge_several_examples(
            request, {"whole": str(tmp_path / "whole"), "more": str(extended)}, tmp_path / "several"
        )  # fmt: skip


def test_two_templates_compare_the_examples_that_fit_whole_by_both(folder: Path, tmp_path: Path, more: Any) -> None:
    """With its marks the tuned model's template takes two tokens more: examples of 30 fit by one and not by both."""
    rows = [{"prompt": f"{n:02}", "completion": "y" * (25 if n % 3 else 26)} for n in range(60)]
    marked = "{% for turn in messages %}[MORE]{{ turn.content }}{{ eos_token }}{% endfor %}"
    request = replace(of_pairs(folder, more(marked)), examples=rows, window_tokens=31)
    judged = judge_examples(request, tmp_path / "verdict").evidence
    assert any(
        "20 examples were left out, because they do not fit whole into 31 tokens" in t for t in judged.assumptions
    )
    assert judged.heldout.windows == sum(
        len(example.completion) == 25 for example in split_examples(load_examples(rows), seed=42).heldout
    )


def test_forgetting_is_measured_on_each_of_several_sources(folder: Path, tmp_path: Path) -> None:
    rows = [json.dumps({"prompt": f"Count {n}.", "completion": " one two three"}) for n in range(40)]
    (tmp_path / "counts.jsonl").write_text("\n".join(rows))
    request = replace(
        of_pairs(folder, folder / "whole"), also={"counts": str(tmp_path / "counts.jsonl")},
        general=str(folder / "general.txt"),
    )  # fmt: skip
    judged = judge_examples(request, tmp_path / "verdict")
    found = judged.evidence.general
    assert [each.name for each in found.by_source] == ["counts", "general text"]
    alone = [
        judge_examples(replace(request, **{name: kept}), tmp_path / name).evidence.general.rise
        for name, kept in (("general", None), ("also", {}))
    ]
    assert [each.rise for each in found.by_source] == alone
    assert min(each.value for each in alone) < found.rise.value < max(each.value for each in alone)
    assert "loss on counts changed by" in str(judged)
    assert "loss on general text changed by" in str(judged)
    with pytest.raises(DataError, match="both name 'general text'"):
        judge_examples(replace(request, also={"general text": str(tmp_path / "counts.jsonl")}), tmp_path / "both")


def test_a_tokenizer_that_is_not_the_bases_with_more_is_refused(folder: Path, tmp_path: Path, more: Any) -> None:
    with pytest.raises(ModelError, match=r"gives 60 of 60 examples other ids .* does not extend it"):
        judge_examples(of_pairs(folder, more("{{ messages[0].content }}[MORE]", renamed=True)), tmp_path / "verdict")


def test_the_base_answers_once_for_all_verdicts(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FTKIT_CACHE", str(tmp_path / "cache"))
    base, examples, asked = str(folder / "base"), str(folder / "pairs.jsonl"), list[tuple[bool, int]]()
    write, weights = answers.AnswerWriter.write, load_model(base).state_dict()["transformer.wte.weight"]

    def noted(writer: Any, model: Any, prompts: Any, before: Any = None) -> Any:
        asked.append((torch.equal(model.state_dict()["transformer.wte.weight"], weights), len(prompts)))
        return write(writer, model, prompts, before)

    monkeypatch.setattr(answers.AnswerWriter, "write", noted)
    request = ExampleVerdictRequest(base, str(folder / "whole"), examples, num_answers=6, few_shot=1)
    first = judge_examples(request, tmp_path / "first").evidence.measures
    assert sum(of_base for of_base, _ in asked) == 4, "six prompts, plain and after each of three draws"
    asked.clear()
    assert judge_examples(request, tmp_path / "again").evidence.measures == first
    judge_examples(replace(request, tuned=str(folder / "other")), tmp_path / "other")
    assert not any(of_base for of_base, _ in asked)
    judge_examples(replace(request, few_shot=2), tmp_path / "longer")
    assert sum(of_base for of_base, _ in asked) == 3, "the draws are others, the six prompts the same"


def test_a_judge_of_style_that_knows_too_few_answers_is_not_used(folder: Path, tmp_path: Path) -> None:
    request = ExampleVerdictRequest(
        str(folder / "base"), str(folder / "whole"), str(folder / "pairs.jsonl"), num_answers=6, few_shot=0,
        judge_style=True,
    )  # fmt: skip
    judged = judge_examples(request, tmp_path / "verdict")
    (score,) = judged.evidence.measures["style"].judges
    assert not score.speaks
    assert "fewer than 30 held-out passages of completions (6)" in judged.judges["ngrams"]["reason"]
    assert judge_examples(replace(request, judge_style=False), tmp_path / "plain").evidence.measures["style"] is None


def test_of_a_long_text_a_run_and_the_command_read_256_windows(folder, tmp_path, monkeypatch):
    read: list[int] = []

    def loss(self: Comparison, *arguments: Any) -> Any:
        found = plain(self, *arguments)
        read.append(len(found.nats))
        return found

    plain = Comparison.loss
    monkeypatch.setattr(Comparison, "loss", loss)
    text = (folder / "text.txt").read_text()
    long = VerdictRequest(
        str(folder / "base"), str(folder / "base"), str(folder / "text.txt"), [text], num_passages=30,
        passage_chars=40, window_tokens=16,
    )  # fmt: skip
    judge_models(long, tmp_path)
    assert max(read) == 256 < len(text.encode()) / 16
    assert inspect.signature(Comparison).parameters["max_windows"].default == 256
    assert inspect.signature(command).parameters["eval_windows"].default == 256
