"""The HTML and CSS of a report's leakage part."""

LEAKAGE = """
<section id="leakage">
<h2>What this model gave away</h2>
<p>Measured: {% for name, title in leakage.overview.taken %}<a href="#leakage-{{ loop.index }}">{{ title }}</a>{% if not loop.last %}, {% endif %}{% endfor %}.
{% if leakage.overview.lacking %}
</p>
<p>Not measured, so not known: {% for one in leakage.overview.lacking %}{{ one.title }}{% if one.trains %} (trains models of its own){% endif %}{% if not loop.last %}, {% endif %}{% endfor %}; to measure them: <code>{{ leakage.overview.command }}</code>, with the path of the folder {{ facts.name }} for RUN.
{% endif %}
</p>
{% if leakage.overview.epsilon %}
<p class="note">{{ leakage.overview.epsilon }}</p>
{% endif %}
<p class="quiet">Each sentence below in a frame is made from the numbers by a rule that names its figures in advance, and says more than chance only where the whole 95 % interval does. n: how many independent people, canaries or sentences are behind a figure. Control: the same figure where nothing can have leaked. A measure that finds nothing is no guarantee: it speaks of its own attack.</p>
{% for card in leakage.cards %}
<article class="leak" id="leakage-{{ loop.index }}">
<h3>{{ card.title }}</h3>
<div class="verdict">{% if card.points %}<ul>{% for point in card.points %}<li>{{ point }}</li>{% endfor %}</ul>{% else %}{{ card.conclusion }}{% endif %}</div>
{% if card.meaning %}
<p>{{ card.meaning }}</p>
{% endif %}
<p class="quiet">Adversary: {{ card.threat }}. Measure <code>{{ card.name }}</code>, after round {{ card.round }}.</p>
{% if card.plots %}
<div class="plots">
{% for svg in card.plots %}<figure>{{ svg }}</figure>
{% endfor %}
</div>
{% if card.promise %}
<p class="quiet">{{ card.promise }}</p>
{% endif %}
{% endif %}
{{ findings(card.first) }}
{% if card.folded %}
<details><summary>{{ card.folded | length }} more figures of this measure</summary>
{{ findings(card.folded) }}
</details>
{% endif %}
{% if card.sentences %}
<details><summary>{{ card.sentences.caption }}</summary>
{% if card.sentences.warning %}
<p class="note"><strong>{{ card.sentences.warning }}</strong></p>
{% endif %}
<div class="scroll" tabindex="0">
<table class="findings">
<thead><tr><th>sentence</th>{% for head in card.sentences.heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in card.sentences.rows %}
<tr><td class="text">{% if row.canary %}{{ row.text }}<small>a canary</small>{% else %}<code>{{ row.text }}</code>{% endif %}</td>{% for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% if card.sentences.masked %}
<p class="quiet">People's words are masked: their first letter and their length are left, from which a common phrase can be guessed: do not give the page to who may not read them. Whoever may read them gets them in words with <code>{{ program }} report RUN --unmask</code>.</p>
{% endif %}
</details>
{% endif %}
</article>
{% endfor %}
</section>
"""

FINDINGS = """
{% macro findings(rows) %}
{% set noted = rows | map(attribute="note") | select | list %}
<div class="scroll" tabindex="0">
<table class="findings figures">
<thead><tr><th>what</th><th>estimate</th><th>95 % interval</th><th>n</th><th>control</th>{% if noted %}<th class="text">note</th>{% endif %}</tr></thead>
<tbody>
{% for row in rows %}
<tr><td class="text">{{ row.quantity }}{% if row.whom %}<small>{{ row.whom }}</small>{% endif %}</td><td><b>{{ row.estimate }}</b></td><td data-head="95 %: ">{{ row.interval }}{% if row.method %}<small>{{ row.method }}</small>{% endif %}</td><td data-head="n = ">{{ row.n }}</td><td data-head="control: ">{{ row.control }}</td>{% if noted %}<td class="text remark">{{ row.note }}</td>{% endif %}</tr>
{% endfor %}
</tbody>
</table>
</div>
{% endmacro %}
"""

HINT = """
{% if facts.rounds_done %}
<p class="quiet">What else this model gives away was not measured: membership of people and sentences, extraction of real text, what a server reads from an update. {% if facts.status.state == "finished" %}To measure it: <code>{{ program }} audit RUN</code>, with the path of the folder {{ facts.name }} for RUN.{% else %}Once the run is finished, <code>{{ program }} audit RUN</code> measures it.{% endif %}</p>
{% endif %}
"""

STYLE = """
.leak { border-top: 1px solid var(--rule); margin-top: 1.6rem; padding-top: .2rem; }
.verdict {
  border: 1px solid var(--rule); border-left: 4px solid var(--accent); border-radius: 4px;
  padding: .55rem .9rem; margin: .5rem 0; max-width: 46rem; font-weight: 600;
}
.verdict ul { margin: 0; padding-left: 1.1rem; }
.findings td, .findings th { vertical-align: top; }
.findings th { white-space: normal; }
.figures td:nth-child(3) { white-space: normal; min-width: 11rem; }
.findings .remark { font-size: .82rem; color: var(--muted); min-width: 13rem; }
@media (max-width: 40rem) {
  .findings { font-size: .85rem; }
  .findings .text { min-width: 7.5rem; }
  /* A figure is a few lines here: a table of six columns would hide its n and its control. */
  .figures, .figures tbody { display: block; }
  .figures thead { display: none; }
  .figures tr {
    display: flex; flex-wrap: wrap; gap: .1rem 1rem; align-items: baseline;
    padding: .5rem 0; border-bottom: 1px solid var(--rule);
  }
  .figures td, .figures td:nth-child(3) { display: block; padding: 0; border: 0; text-align: left; min-width: 0; white-space: normal; }
  .figures td.text { flex: 1 0 100%; }
  .figures td small { text-align: left; }
  .figures td[data-head]::before { content: attr(data-head); color: var(--muted); }
  .figures td:empty, .figures td[data-head]:not(:has(*)):empty { display: none; }
}
code { font: .9em ui-monospace, Consolas, monospace; overflow-wrap: anywhere; }
"""
