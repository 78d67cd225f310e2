"""What a person reads at the end: the verdict on the terminal, the figures, and one self-contained page."""

from ftkit.report.comparisons import arm_row, verdict_row
from ftkit.report.page import write_report
from ftkit.report.terminal import announce, verdict_lines, write_verdicts

__all__ = ["announce", "arm_row", "verdict_lines", "verdict_row", "write_report", "write_verdicts"]
