"""The own GPT-2 under transformers' own common model tests.

Those tests are not part of the installed wheel, and copying them would fork them. The source distribution has them:
``pip download --no-deps --no-binary :all: transformers``, unpack it, and name its ``tests`` folder in
``FTKIT_TRANSFORMERS_TESTS``. Without that these tests are skipped; ``test_modeling.py`` checks the same claims in our
own words and always runs. The distribution leaves out the exporter and generation mixins, so those stay empty here
and ``test_generation.py`` stands in for the second.
"""

import importlib
import os
import sys
import types
import unittest
import unittest.mock

import pytest
import torch

from ftkit.models import (
    FtkitGPT2Config,
    FtkitGPT2ForCausalLM,
    FtkitGPT2ForSequenceClassification,
    FtkitGPT2Model,
)

FOLDER = os.environ.get("FTKIT_TRANSFORMERS_TESTS")
if not FOLDER:
    pytest.skip("FTKIT_TRANSFORMERS_TESTS does not name the tests of transformers", allow_module_level=True)

pytestmark = pytest.mark.filterwarnings("ignore")  # theirs, not ours


def package(name: str, *, path: list[str] | None = None, **contents: object) -> None:
    module = types.ModuleType(name)
    module.__path__ = path or []
    module.__dict__.update(contents)
    sys.modules[name] = module


package("transformers_tests", path=[FOLDER])
package("transformers_tests.exporters")
package("transformers_tests.exporters.test_export", ExportTesterMixin=type("ExportTesterMixin", (), {}))
package("transformers_tests.generation")
package("transformers_tests.generation.test_utils", GenerationTesterMixin=type("GenerationTesterMixin", (), {}))
common = importlib.import_module("transformers_tests.test_modeling_common")


class Tester:
    """The tiny model and inputs that transformers' mixins ask for by these names."""

    is_training = True
    batch_size, seq_length, hidden_size, num_hidden_layers, num_attention_heads = 3, 7, 32, 2, 4
    vocab_size = 99

    def get_config(self) -> FtkitGPT2Config:
        return FtkitGPT2Config(
            vocab_size=self.vocab_size,
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_hidden_layers,
            num_attention_heads=self.num_attention_heads,
            max_position_embeddings=64,
            bos_token_id=1,
            eos_token_id=2,
            pad_token_id=0,
        )

    def prepare_config_and_inputs_for_common(self) -> tuple[FtkitGPT2Config, dict[str, torch.Tensor]]:
        ids = torch.randint(3, self.vocab_size, (self.batch_size, self.seq_length))
        return self.get_config(), {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class TestCommon(common.ModelTesterMixin, common.GenerationTesterMixin, unittest.TestCase):
    all_model_classes = (FtkitGPT2Model, FtkitGPT2ForCausalLM, FtkitGPT2ForSequenceClassification)
    all_generative_model_classes = (FtkitGPT2ForCausalLM,)
    test_resize_embeddings = True

    def setUp(self) -> None:
        self.model_tester = Tester()
        # The mixin knows which class wants which labels by these tables of names.
        for table, model_class in (
            (common.MODEL_MAPPING_NAMES, FtkitGPT2Model),
            (common.MODEL_FOR_CAUSAL_LM_MAPPING_NAMES, FtkitGPT2ForCausalLM),
            (common.MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING_NAMES, FtkitGPT2ForSequenceClassification),
        ):
            patch = unittest.mock.patch.dict(table, {"ftkit_gpt2": model_class.__name__})
            patch.start()
            self.addCleanup(patch.stop)
