"""Probes: what is measured every few steps of a training, without changing it."""

from ftkit.training.probes.built_in import (
    Activations,
    GroupProbabilities,
    UpdateRatio,
    WeightChange,
    WeightDistributions,
    block_modules,
    build_probes,
)
from ftkit.training.probes.probe import CallbackProbe, Probe, Probing

__all__ = [
    "Activations",
    "CallbackProbe",
    "GroupProbabilities",
    "Probe",
    "Probing",
    "UpdateRatio",
    "WeightChange",
    "WeightDistributions",
    "block_modules",
    "build_probes",
]
