"""Optimizers and what they decay.

Weight decay pulls matrices and embeddings towards zero; a bias or a norm's gain has no reason to be small. Muon
orthogonalises the update of a matrix (Jordan et al. 2024, https://kellerjordan.github.io/posts/muon), which means
something for the linear maps inside the blocks and nothing for embeddings, heads, norms and biases: those keep AdamW.
"""

import torch
from torch import nn
from transformers import PreTrainedModel
from transformers.pytorch_utils import Conv1D

from ftkit.config import TrainingSettings
from ftkit.errors import ConfigError

__all__ = ["build_optimizers", "matrices_of_blocks"]


def matrices_of_blocks(model: PreTrainedModel) -> dict[str, nn.Parameter]:
    """The weight matrices of linear maps inside the blocks: no embedding, no head, no classifier.

    Args:
        model: Any Hugging Face model.

    Returns:
        Parameter names and parameters that are trainable and 2-dimensional.
    """
    backbone = model.base_model
    inside = {id(parameter) for parameter in backbone.parameters()}
    embeddings = {id(p) for module in model.modules() if isinstance(module, nn.Embedding) for p in module.parameters()}
    linear = {id(module.weight) for module in model.modules() if isinstance(module, nn.Linear | Conv1D)}
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.requires_grad and id(parameter) in (inside & linear) - embeddings
    }


def _adamw(parameters: dict[str, nn.Parameter], settings: TrainingSettings) -> torch.optim.AdamW:
    decayed = [p for p in parameters.values() if p.ndim >= 2]
    plain = [p for p in parameters.values() if p.ndim < 2]
    groups = [{"params": decayed, "weight_decay": settings.weight_decay}, {"params": plain, "weight_decay": 0.0}]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=settings.learning_rate)


def build_optimizers(model: PreTrainedModel, settings: TrainingSettings) -> list[torch.optim.Optimizer]:
    """The optimizers of a model; every trainable parameter belongs to exactly one.

    Args:
        model: The model, before anything wraps it.
        settings: ``optimizer``, the learning rates and ``weight_decay`` are read.

    Returns:
        AdamW alone, or Muon for the matrices of the blocks and AdamW for the rest. Each group carries its peak rate
        as ``peak_lr``.

    Raises:
        ConfigError: Nothing can be trained.
    """
    trainable = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    if not trainable:
        raise ConfigError(f"nothing to train: all {sum(1 for _ in model.parameters())} tensors of the model are frozen")
    optimizers: list[torch.optim.Optimizer] = []
    if settings.optimizer == "muon":
        matrices = matrices_of_blocks(model)
        optimizers.append(
            torch.optim.Muon(matrices.values(), lr=settings.muon_learning_rate, weight_decay=settings.weight_decay)
        )
        trainable = {name: parameter for name, parameter in trainable.items() if name not in matrices}
    if trainable:
        optimizers.append(_adamw(trainable, settings))
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["peak_lr"] = group["lr"]
    return optimizers
