"""The HTML report."""
from ftkit.runs import RunFolder

def write_report(run: RunFolder) -> None:
    pass
