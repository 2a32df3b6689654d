"""The page of a study: what was found, plots, and tables; one HTML file, nothing from outside."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import jinja2
from markupsafe import Markup

from fedsim.report.style_template import STYLE
from fedsim.showing import shown


class Section(NamedTuple):
    """A heading, and below it what there is: a sentence, plots, a table, a note in small print."""

    title: str
    header: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = ()
    intro: str = ""
    plots: Sequence[Markup] = ()
    note: str = ""
    folded: bool = False  # the table is behind a click
    pinned: bool = False  # a wide table: narrow columns, the first stays while others are scrolled


def study_page(
    title: str,
    findings: Sequence[str],
    plots: Sequence[Markup],
    caption: str,
    sections: Sequence[Section],
    caveats: Sequence[str] = (),
) -> str:
    """The whole page as HTML; what to bear in mind stands out from the findings."""
    environment = jinja2.Environment(autoescape=True, undefined=jinja2.StrictUndefined,
                                     trim_blocks=True, lstrip_blocks=True)  # fmt: skip
    return shown(
        environment.from_string(_PAGE.lstrip()).render(
            style=Markup(STYLE.lstrip()),
            title=title,
            findings=findings,
            plots=plots,
            caption=caption,
            sections=sections,
            caveats=caveats,
        )
    )


_PAGE = """
{% macro figures(plots) %}
{% if plots %}
<div class="plots">
{% for plot in plots %}
<figure>{{ plot }}</figure>
{% endfor %}
</div>
{% endif %}
{% endmacro %}
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ title }}</title>
<style>
{{ style }}
</style>
</head>
<body>
<header><h1>{{ title }}</h1></header>
<main>
<section><h2>In short</h2>
{% for sentence in findings %}
<p>{{ sentence }}</p>
{% endfor %}
{% if caveats %}
<div class="note">
{% for sentence in caveats %}
<p>{{ sentence }}</p>
{% endfor %}
</div>
{% endif %}
{{ figures(plots) }}
{% if caption %}
<p class="quiet">{{ caption }}</p>
{% endif %}
</section>
{% for section in sections %}
<section><h2>{{ section.title }}</h2>
{% if section.intro %}
<p>{{ section.intro }}</p>
{% endif %}
{{ figures(section.plots) }}
{% if section.header %}
{% if section.folded %}
<details><summary>{{ section.rows | length }} rows</summary>
{% endif %}
<div class="scroll{{ ' pinned' if section.pinned }}" tabindex="0"><table>
<thead><tr>{% for name in section.header %}<th>{{ name }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in section.rows %}
<tr>{% for cell in row %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody></table></div>
{% if section.folded %}
</details>
{% endif %}
{% endif %}
{% if section.note %}
<p class="quiet">{{ section.note }}</p>
{% endif %}
</section>
{% endfor %}
</main>
</body>
</html>
"""
