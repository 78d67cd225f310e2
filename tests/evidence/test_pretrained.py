"""What ftkit does with a model that was really pretrained: loads, writes, measures, adapts and judges it.

The model is stories260K of karpathy/tinyllamas: 260,032 parameters, Llama architecture, trained on simple stories.
"""

import math

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from ftkit.config import AdapterSettings
from ftkit.data import load_tokenizer, tokenize_texts
from ftkit.evidence import copying, cut_passages, fluency, language_damage
from ftkit.evidence.copying import CopyIndex
from ftkit.generation import PRESETS, Sampling, generate_passages
from ftkit.inspection.verification import verify_folders
from ftkit.models import load_model, reload_difference, save_model
from ftkit.models.outputs import ROUNDING
from ftkit.training import NEXT_TOKEN, Engine, HeldOutWindows, TokenWindows, held_out_loss
from ftkit.tuning import attach_adapter

STORY = (
    "Once upon a time, there was a little girl named Lily. She loved to play outside in the park. "
    "One day, she saw a big, red ball."
)
"""What the model writes by greedy decoding, as its author has published it."""
NEW_STORY = (
    "Tom had a small green boat. Every day he took it to the pond near his house. One day the wind was strong and the "
    "boat went far away. Tom was sad. His mom said, do not worry, we will find it. They walked around the pond and saw "
    "the boat next to a big tree. Tom was happy and said thank you to his mom. "
)


@pytest.fixture(scope="module")
def model(stories260k):
    return load_model(str(stories260k))


@pytest.fixture(scope="module")
def tokenizer(stories260k):
    return load_tokenizer(str(stories260k))


def test_greedy_text_is_the_published_one(model, tokenizer):
    (passage,) = generate_passages(
        model, tokenizer, [[1, *tokenizer("Once upon a time", add_special_tokens=False)["input_ids"]]],
        new_tokens=60, sampling=Sampling(do_sample=False), seed=0,
    )  # fmt: skip
    assert ("Once upon a time" + passage.text).startswith(STORY)


def test_held_out_loss_is_that_of_transformers(model, tokenizer, stories260k):
    text = NEW_STORY * 3
    store = tokenize_texts([text], tokenizer)
    found = held_out_loss(model, HeldOutWindows(store, 64))
    theirs = AutoModelForCausalLM.from_pretrained(stories260k).eval()
    windows = torch.tensor(np.asarray(store.ids[: len(found.nats) * 64]).reshape(-1, 64).astype(np.int64))
    with torch.no_grad():
        mean = theirs(input_ids=windows, labels=windows).loss.item()
    assert found.nats_per_target == pytest.approx(mean, rel=1e-5)
    assert found.nats_per_target < 3 < math.log(512), "it knows the language of stories"
    its_own = AutoTokenizer.from_pretrained(stories260k)
    assert its_own.decode(np.asarray(store.ids).tolist()).strip() == text.strip()


def test_a_lora_learns_a_story_and_comes_back(model, stories260k, tokenizer, tmp_path):
    tuned = load_model(str(stories260k))
    settings = AdapterSettings(
        model=str(stories260k), peft="lora", lora_r=4, learning_rate=1e-2, optimizer="adamw", max_steps=12,
        per_device_train_batch_size=4, window_tokens=64, save_steps=0, use_cpu=True,
    )  # fmt: skip
    tuned = attach_adapter(tuned, settings)
    store = tokenize_texts([NEW_STORY * 4], tokenizer)
    before = held_out_loss(model, HeldOutWindows(store, 64)).bits_per_byte
    with Engine(tuned, NEXT_TOKEN, TokenWindows(store, 64, seed=0), settings) as engine:
        losses = [record.loss for record in engine]
    assert len(losses) == 12
    assert held_out_loss(tuned, HeldOutWindows(store, 64)).bits_per_byte < before - 0.3
    save_model(tuned, tokenizer, tmp_path / "adapter")
    ids = torch.tensor(np.asarray(store.ids[:40]).astype(np.int64))[None]
    assert reload_difference(tuned, tmp_path / "adapter", ids) < ROUNDING


def test_its_folder_saved_again_is_the_same_model(model, stories260k, tmp_path):
    save_model(model, None, tmp_path / "again")
    found = verify_folders(stories260k, tmp_path / "again")
    assert found.equal, found.reasons
    assert (found.largest, found.paired) == (0.0, 47)


def test_stories_of_a_real_model_are_language_and_noised_weights_are_damage(model, tokenizer, stories260k):
    """48 passages of each; what it writes by itself stands for real text, so its other passages are undamaged."""

    def passages(model, seed):
        starts = [[1]] * 48
        made = generate_passages(model, tokenizer, starts, new_tokens=70, sampling=PRESETS["plain"], seed=seed)
        return cut_passages([" ".join(passage.text.split()) for passage in made], 150)

    real, base, same = passages(model, 1), passages(model, 2), passages(model, 3)
    noised = load_model(str(stories260k))
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in noised.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * parameter.std() * 0.6)
    known = {word.strip(".,!?\"'").lower() for passage in (*real, *base) for word in passage.split()}
    unhurt = language_damage(same, base, real, known, known)
    assert unhurt.repetition.low < 0.1
    assert unhurt.diversity.low < 0.1
    assert unhurt.unknown_words.low < 0.1
    written = passages(noised, 3)
    assert language_damage(written, base, real, known, known).unknown_words.low > 0.1
    assert fluency(same, known).unknown_words < 0.5 * fluency(written, known).unknown_words
    assert copying(same, real, CopyIndex([NEW_STORY])).longest_run < 12
