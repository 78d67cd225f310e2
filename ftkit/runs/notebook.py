"""How objects show themselves in a notebook: one small table, every cell escaped."""

from collections.abc import Iterable

from markupsafe import Markup

__all__ = ["html_table"]


def html_table(title: str, rows: Iterable[tuple[str, str]]) -> str:
    """A table of two columns.

    Args:
        title: Stands above it.
        rows: Name and value of each line; text of any origin, or markup that is escaped already.
    """
    line = Markup('<tr><th style="text-align: left">{}</th><td style="text-align: left">{}</td></tr>')
    body = Markup("").join(line.format(name, value) for name, value in rows)
    return str(Markup("<table><caption>{}</caption><tbody>{}</tbody></table>").format(title, body))
