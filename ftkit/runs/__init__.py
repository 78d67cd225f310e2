"""The run folder: one job's settings, manifest, metrics, checkpoints, models, evidence and report."""

from ftkit.runs.evidence_file import EVIDENCE_VERSION, read_evidence, write_evidence, written_passages
from ftkit.runs.files import file_sha256, write_atomically, write_json
from ftkit.runs.folder import RunFolder
from ftkit.runs.progress import Progress, progress
from ftkit.runs.run_state import open_run, read_run

__all__ = [
    "EVIDENCE_VERSION",
    "Progress",
    "RunFolder",
    "file_sha256",
    "open_run",
    "progress",
    "read_evidence",
    "read_run",
    "write_atomically",
    "write_evidence",
    "write_json",
    "written_passages",
]
