"""The summary of a comparison as a LaTeX table with booktabs."""

from __future__ import annotations

from fedsim.report.comparison_cells import SCORES, Cells
from fedsim.report.comparison_findings import privacy
from fedsim.report.comparison_rows import Bold, caption, summary

LONG = 36  # rows, more of which a page does not hold
LEFT_OUT = {SCORES[name].title for name in ("top3", "keystrokes_saved")}  # for the width of a page
_ESCAPED = str.maketrans(
    {
        "\\": r"\textbackslash{}",
        "{": r"\{",
        "}": r"\}",
        "$": r"\$",
        "&": r"\&",
        "#": r"\#",
        "%": r"\%",
        "_": r"\_",
        "^": r"\textasciicircum{}",
        "~": r"\textasciitilde{}",
        "<": "$<$",
        ">": "$>$",
        "|": "$|$",
        '"': "''",
        "\n": " ",
        "\N{MINUS SIGN}": "$-$",
        "\N{PLUS-MINUS SIGN}": r"$\pm$",
        "\N{EN DASH}": "--",
        "\N{INFINITY}": r"$\infty$",
    }
)


def as_latex(cells: Cells) -> str:
    """Table environments: one, or where a page does not hold it as many as it takes."""
    header, rows = summary(cells)
    kept = [i for i, name in enumerate(header) if name not in LEFT_OUT]
    head = " & ".join(_heading(header[i]) for i in kept) + r" \\"
    body = [" & ".join(_cell(row[i]) for i in kept) + r" \\" for row in rows]
    words = 1 + len(cells.comparison.axes)
    columns = "@{}" + "l" * words + "r" * (len(kept) - words) + "@{}"
    of_setting = len(cells.comparison.strategies)
    groups = [body[i : i + of_setting] for i in range(0, len(body), of_setting)]
    most = max(1, LONG // of_setting)
    parts = [groups[i : i + most] for i in range(0, len(groups), most)]
    told = escaped(" ".join([caption(cells), *privacy(cells)]))
    text = "% Needs the packages booktabs and graphicx. A table too wide is shrunk to the line.\n"
    for number, part in enumerate(parts):
        lines = "\\addlinespace\n".join("\n".join(group) + "\n" for group in part)
        text += _TABLE % {
            "caption": rf"{told}\label{{tab:comparison}}" if number == 0 else "Continued.",
            "columns": columns,
            "head": head,
            "body": lines,
        }
    return text


_TABLE = r"""\begin{table}
\centering\footnotesize\setlength{\tabcolsep}{4pt}
\caption{%(caption)s}
\resizebox{\ifdim\width>\linewidth\linewidth\else\width\fi}{!}{%%
\begin{tabular}{%(columns)s}
\toprule
%(head)s
\midrule
%(body)s\bottomrule
\end{tabular}}
\end{table}
"""


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return text.translate(_ESCAPED)


def _cell(value: str) -> str:
    return rf"\textbf{{{escaped(value)}}}" if isinstance(value, Bold) else escaped(value)


def _heading(name: str) -> str:
    """Long headings in two lines."""
    lines = [escaped(line) for line in _halves(name)]
    if len(lines) == 1:
        return lines[0]
    return r"\begin{tabular}[b]{@{}r@{}}" + r"\\".join(lines) + r"\end{tabular}"


def _halves(name: str) -> list[str]:
    """A long heading in two lines of about one length."""
    spaces = [i for i, letter in enumerate(name) if letter == " "]
    if len(name) < 16 or not spaces:
        return [name]
    middle = min(spaces, key=lambda i: abs(i - len(name) / 2))
    return [name[:middle], name[middle + 1 :]]
