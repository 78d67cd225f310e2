"""Comparison, verification, perturbation, weight statistics and transplantation of models and model folders."""

from ftkit.inspection.converted_folder import convert_folder
from ftkit.inspection.diff import FolderDifference, diff_folders
from ftkit.inspection.distributions import WeightStatistics, weight_statistics
from ftkit.inspection.model_summary import Inspection, inspect_model, module_tree
from ftkit.inspection.perturbation import perturb
from ftkit.inspection.transplantation import transplant
from ftkit.inspection.verification import Verification, verify_folders

__all__ = [
    "FolderDifference",
    "Inspection",
    "Verification",
    "WeightStatistics",
    "convert_folder",
    "diff_folders",
    "inspect_model",
    "module_tree",
    "perturb",
    "transplant",
    "verify_folders",
    "weight_statistics",
]
