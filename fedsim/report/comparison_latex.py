"""The summary of a comparison as a LaTeX table with booktabs."""

from __future__ import annotations

from fedsim.report.comparison_cells import SCORES, Cells
from fedsim.report.comparison_rows import Bold, caption, halves, summary

LONG = 36  # rows that a page of a paper still takes
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
    """A table environment; longtable where it has more rows than a page."""
    header, rows = summary(cells)
    kept = [i for i, name in enumerate(header) if name not in LEFT_OUT]
    head = " & ".join(_heading(header[i]) for i in kept)
    body = [" & ".join(_cell(row[i]) for i in kept) + r" \\" for row in rows]
    words = 1 + len(cells.comparison.axes)
    columns = "@{}" + "l" * words + "r" * (len(kept) - words) + "@{}"
    told = rf"\caption{{{escaped(caption(cells))}}}\label{{tab:comparison}}"
    is_long = len(rows) > LONG
    packages = "booktabs and longtable" if is_long else "booktabs"
    lines = [f"% Needs the {'packages' if is_long else 'package'} {packages}."]
    if is_long:
        lines += [
            r"{\footnotesize\setlength{\tabcolsep}{3pt}", rf"\begin{{longtable}}{{{columns}}}",
            rf"{told} \\", r"\toprule", rf"{head} \\", r"\midrule", r"\endfirsthead",
            r"\toprule", rf"{head} \\", r"\midrule", r"\endhead", r"\bottomrule", r"\endfoot",
            *body, r"\end{longtable}}",
        ]  # fmt: skip
    else:
        lines += [
            r"\begin{table}", r"\centering\footnotesize\setlength{\tabcolsep}{3pt}", told,
            rf"\begin{{tabular}}{{{columns}}}", r"\toprule", rf"{head} \\", r"\midrule", *body,
            r"\bottomrule", r"\end{tabular}", r"\end{table}",
        ]  # fmt: skip
    return "\n".join(lines) + "\n"


def escaped(text: str) -> str:
    """Text that LaTeX sets as it is."""
    return text.translate(_ESCAPED)


def _cell(value: str) -> str:
    return rf"\textbf{{{escaped(value)}}}" if isinstance(value, Bold) else escaped(value)


def _heading(name: str) -> str:
    """Long headings in two lines."""
    lines = [escaped(line) for line in halves(name)]
    if len(lines) == 1:
        return lines[0]
    return r"\begin{tabular}[b]{@{}r@{}}" + r"\\".join(lines) + r"\end{tabular}"
