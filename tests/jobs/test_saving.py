"""What ends a training: a folder that holds the model, and a phase that says by how much it does not."""

from ftkit.config import Settings
from ftkit.data import load_corpus, load_tokenizer, split_corpus, tokenize_texts
from ftkit.jobs import save_trained
from ftkit.models import load_model
from ftkit.models.outputs import ROUNDING
from ftkit.runs import open_run, read_run
from ftkit.training import TokenWindows


def trained(tmp_path, **run_attributes):
    texts = split_corpus(load_corpus("voices:keeper:4000")).train
    tokenizer = load_tokenizer("byte", texts=texts)
    source = TokenWindows(tokenize_texts(texts, tokenizer), 16, seed=0)
    model = load_model("new:ftkit_gpt2,n_embd=16,n_layer=1,n_head=2", vocab_size=len(tokenizer))
    with open_run(Settings(output_dir=str(tmp_path / "run")), __file__) as run:
        for name, value in run_attributes.items():
            setattr(run, name, value)
        save_trained(run, "arm", model, tokenizer, source, steps=7)
    return model, read_run(tmp_path / "run")


def test_the_folder_loads_with_the_same_weights_and_the_phase_is_sealed(tmp_path):
    model, run = trained(tmp_path)
    sealed = run.result("arm")
    assert sealed["steps"] == 7
    assert sealed["reload_difference"] < ROUNDING
    again = load_model(str(run.model("arm"))).state_dict()
    assert all(tensor.equal(again[key]) for key, tensor in model.state_dict().items())
    run.check_models()


def test_another_process_than_the_first_writes_nothing(tmp_path):
    _, run = trained(tmp_path, is_main=False)
    assert run.done_results("arm") is None
    assert not run.model("arm").exists()
