"""Verdicts as a gate for continuous integration: which words must come, which must not, and a file of JUnit XML."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self
from xml.etree import ElementTree

from ftkit.errors import ConfigError, GateError, nearest_name
from ftkit.evidence.measures import all_measures
from ftkit.report.terminal import verdict_lines
from ftkit.report.wording import OUTCOMES
from ftkit.runs.files import write_atomically

__all__ = ["Gate"]

_NOT_IN_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 has no way to write."""


@dataclass(frozen=True)
class Gate:
    """Words that a verdict must have, and words that it must not have."""

    require: tuple[str, ...] = ()
    """One of these must be the main word; none: any may be."""
    fail_on: tuple[str, ...] = ()
    """None of these may be the main word or stand beside it."""

    @classmethod
    def of(cls, require: str | None = None, fail_on: str | None = None) -> Self:
        """Read words that commas separate.

        Args:
            require: Main words, such as ``worked``.
            fail_on: Words of both kinds, such as ``broken,copied,forgot``.

        Raises:
            ConfigError: A word that no verdict has.
        """
        beside = [word for measure in all_measures() for word in measure.words]
        return cls(_words("--require", require, [*OUTCOMES]), _words("--fail-on", fail_on, [*OUTCOMES, *beside]))

    def conditions(self, verdict: Mapping[str, Any]) -> dict[str, bool]:
        """Return whether each condition holds, such as ``{"--fail-on broken": True}``.

        Args:
            verdict: An entry of ``verdict.json``.
        """
        word, also = verdict["verdict"], verdict["also"]
        required = {f"--require {','.join(self.require)}": word in self.require} if self.require else {}
        return required | {f"--fail-on {bad}": bad != word and bad not in also for bad in self.fail_on}

    def check(self, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
        """Refuse verdicts that the gate does not let pass.

        Args:
            verdicts: By model.

        Raises:
            GateError: A condition does not hold.
        """
        failed = [
            f"{name}: asked {' '.join(failures)}, found {_found(verdict)}"
            for name, verdict in verdicts.items()
            if (failures := [each for each, holds in self.conditions(verdict).items() if not holds])
        ]
        if failed:
            raise GateError("; ".join(failed))

    def write_junit(self, path: Path, verdicts: Mapping[str, Mapping[str, Any]]) -> None:
        """Write a test case for each model and condition, as systems for continuous integration read them.

        Args:
            path: The XML file.
            verdicts: By model.
        """
        cases = list(self._cases(verdicts))
        counts = {"tests": str(len(cases)), "failures": str(sum(len(case) for case in cases)), "errors": "0"}
        root = ElementTree.Element("testsuites", counts)
        ElementTree.SubElement(root, "testsuite", {"name": "ftkit verdict", **counts, "skipped": "0"}).extend(cases)
        ElementTree.indent(root)
        write_atomically(path, ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n")

    def _cases(self, verdicts: Mapping[str, Mapping[str, Any]]) -> Iterator[ElementTree.Element]:
        for name, verdict in verdicts.items():
            for condition, holds in self.conditions(verdict).items():
                case = ElementTree.Element("testcase", {"classname": _writable(name), "name": condition})
                if not holds:
                    message = {"message": f"found {_found(verdict)}", "type": "verdict"}
                    failure = ElementTree.SubElement(case, "failure", message)
                    failure.text = _writable("\n".join(verdict_lines(verdict)))
                yield case


def _words(option: str, given: str | None, known: list[str]) -> tuple[str, ...]:
    if given is None:
        return ()
    words = tuple(dict.fromkeys(word.strip() for word in given.split(",")))
    if bad := [word for word in words if word not in known]:
        raise ConfigError(f"{option}: no verdict has the word {bad[0]!r}{nearest_name(bad[0], known)}")
    return words


def _found(verdict: Mapping[str, Any]) -> str:
    also = f" (also: {', '.join(verdict['also'])})" if verdict["also"] else ""
    return f"{verdict['verdict']}{also}"


def _writable(text: str) -> str:
    return _NOT_IN_XML.sub("", text)
