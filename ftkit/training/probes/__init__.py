"""Probes: what is measured every few steps of a training, without changing it."""

from ftkit.training.probes.inside import Activations, GroupProbabilities, block_modules
from ftkit.training.probes.named import build_probes
from ftkit.training.probes.probe import CallbackProbe, Probe, Probing
from ftkit.training.probes.weights import UpdateRatio, WeightChange, WeightDistributions

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
