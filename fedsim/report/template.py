"""The report's HTML and CSS, as Python: a bundle of Flower's carries no other text files."""

PAGE = """
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{ facts.federated }} on {{ facts.config.data.name }}: {{ facts.name }}</title>
<style>
{{ style }}
</style>
</head>
<body>
{% macro plot(svg, caption="") %}
<figure style="margin:0">{{ svg }}{% if caption %}<figcaption>{{ caption }}</figcaption>{% endif %}</figure>
{% endmacro %}
{% macro tiles_of(items) %}
<div class="tiles">
{% for value, name in items %}
<div><b>{{ value }}</b><span>{{ name }}</span></div>
{% endfor %}
</div>
{% endmacro %}
{% macro model(row) %}<i class="key {{ row.look }}"></i>{{ row.model }}{% endmacro %}
<header>
<h1>{{ facts.federated }} on {{ facts.config.data.name }}</h1>
<div class="quiet">run {{ facts.name }}{% if started %}, started {{ started }}{% endif %}, seed {{ facts.config.seed }}
<span class="state {{ 'finished' if facts.status.state == 'finished' else 'other' }}">{{ facts.status.state }}</span></div>
<nav aria-label="Sections"><a href="#results">Results</a><a href="#learning">Learning</a><a href="#users">Users</a><a href="#memorization">Memorization</a>{% if leakage %}<a href="#leakage">Leakage</a>{% endif %}<a href="#cost">Cost</a><a href="#meaning">What the numbers mean</a><a href="#record">Config</a></nav>
</header>
<main>

<section id="summary">
<h2>In short</h2>
{% for paragraph in summary %}
<p>{{ paragraph }}</p>
{% endfor %}
<p class="note"><strong>{{ privacy[0] }}</strong> {{ privacy[1] }}</p>
{% if statement %}
<details><summary>The privacy statement</summary><pre>{{ statement }}</pre></details>
{% endif %}
{% if tiles %}{{ tiles_of(tiles) }}{% endif %}
</section>

<section id="results">
<h2>Results on unseen test users</h2>
{% if results %}
<div class="scroll" tabindex="0">
<table>
<thead><tr><th>model</th><th>top-1 recall</th><th>top-3 recall</th><th>worst tenth of<br>users, top-1</th><th>perplexity</th><th>keystrokes saved,<br>three suggestions</th><th>with one,<br>with five</th><th>latency<br>p50 / p95</th><th>size</th></tr></thead>
<tbody>
{% for row in results %}
<tr><td>{{ model(row) }}</td><td>{{ row.top1 }}<small>{{ row.top1_interval }}</small></td><td>{{ row.top3 }}<small>{{ row.top3_interval }}</small></td><td>{{ row.worst1 }}<small>top-3 {{ row.worst3 }}</small></td><td>{{ row.perplexity }}</td><td>{{ row.savings }}</td><td>{{ row.savings1 }}<small>{{ row.savings5 }}</small></td><td>{{ row.latency }}</td><td>{{ row.size }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="quiet">± is the half width of a 95 % interval over users: recall is a ratio of sums over users, its variance is that of the ratio linearised by user (normal approximation), so one talkative user counts as one person. It says how much another draw of test users would change the number, not how much another training seed would. {% if results | length > 1 %}The differences in the summary are paired by user: models are compared on the same people.{% endif %}</p>
{% if averaged %}
<p class="quiet">{{ averaged }}</p>
{% endif %}
{% if floors %}
<p class="quiet">Unigram and word list are floors: keyboards that do not look at what was typed before. The one offers the words that are typed most often among those that the letters so far leave over, the other has no model at all and offers a word once no more are left over than it shows. What a model saves beyond them it owes to context.</p>
{% endif %}
{% else %}
<p>There are no results on test users: the run did not get to its end.</p>
{% endif %}
</section>

<section id="learning">
<h2>Learning curves</h2>
{% if curves %}
<div class="plots">
{% for svg in curves %}{{ plot(svg) }}{% endfor %}
</div>
<p class="quiet">The curve is scored on validation users. {% if results %}The horizontal lines and the diamond are final recalls on the test users, other people, so a gap between curve and diamond is a difference between people and not between models. {% endif %}The training loss is over everything that the users of a round trained on, canary users included.</p>
{% else %}
<p>No round was completed, so there is nothing to plot.</p>
{% endif %}
</section>

<section id="users">
<h2>How recall differs between users</h2>
{% if distribution %}
<div class="plots">{{ plot(distribution) }}</div>
<h3>Top-1 recall at each tenth of the test users</h3>
<div class="scroll" tabindex="0">
<table>
<thead><tr><th>model</th>{% for i in range(1, 10) %}<th>{{ i }}0 %</th>{% endfor %}</tr></thead>
<tbody>
{% for row in deciles %}
<tr><td>{{ model(row) }}</td>{% for cell in row.cells %}<td>{{ cell }}</td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="quiet">Read: 10 % of the users have at most the recall in the first column, half of them at most the one under 50 %. A user with few words has a noisy recall, which widens the spread. {{ better_for | join(" ") }}</p>
{% else %}
<p>Scores of single test users are written at the end of a run; this one did not get there.</p>
{% endif %}
</section>

<section id="memorization">
<h2>What the model memorized</h2>
{% if grid %}
<p>Canaries are random five-word sentences that synthetic users hold among ordinary text. A model that memorized nothing ranks them like any other random sentence.</p>
<h3>Mean sampled exposure after round {{ facts.exposure["round"].max() }}, by holders and copies each</h3>
<div class="scroll" tabindex="0">
<table class="heat">
<thead><tr><th>held by</th>{% for head in grid.heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in grid.rows %}
<tr><th>{{ row.head }}</th>
{% for cell in row.cells %}
{% if cell is none %}<td class="off"></td>
{% elif not cell.seen %}<td class="off">never<br>took part</td>
{% else %}<td class="on" style="--share:{{ cell.share }}"><b>{{ cell.bits }}</b> bits<small>{{ cell.seen }} {{ "canary" if cell.seen == 1 else "canaries" }}, by chance {{ cell.chance }}</small><small>{{ cell.extracted }} extracted</small><small>{{ cell.rounds }} participations</small></td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="quiet">At most {{ "%.2f" | format(facts.ceiling_bits) }} bits can be measured with {{ "{:,}".format(facts.config.canaries.references) }} reference sentences. By chance: how often as many canaries that were never trained on would have such a mean or a higher one (Fisher's method, an upper bound). Participations: rounds that a holder took part in, summed over holders. Canaries whose holders never took part are left out of every mean.</p>
<h3>Sampled exposure by round</h3>
<div class="plots small">
{% for svg in exposure_curves %}{{ plot(svg) }}{% endfor %}
</div>
<p class="quiet">Dotted: {{ never_seen }} bits, the mean of a sentence that was never seen. Solid line on top: the ceiling. A line begins when the first holder took part.</p>
{% elif facts.plants_canaries %}
<p>Canaries are planted, but no measurement was made before the run stopped.</p>
{% else %}
<p>No canaries were planted in this run, so this report says nothing about memorization.</p>
{% endif %}
{% if control_plot %}
<h3>Check: canaries that nobody holds</h3>
<div class="plots">{{ plot(control_plot) }}</div>
<p class="quiet">{{ facts.controls | length }} control canaries average {{ control_mean }}; chance alone gives {{ never_seen }}. An average far from it would mean that the measurement is off, not that something was memorized.</p>
{% endif %}
{% if canaries %}
<h3>Planted canaries</h3>
<details{% if canaries | length <= 30 %} open{% endif %}>
<summary>{{ canaries | length }} of {{ facts.planted | length }} canaries, the most exposed first</summary>
<div class="scroll" tabindex="0">
<table>
<thead><tr><th>canary</th><th>held by</th><th>copies each</th><th>participations</th><th>sampled exposure, bits</th><th>extracted</th></tr></thead>
<tbody>
{% for row in canaries %}
<tr{% if row.never %} class="never"{% endif %}><td>#{{ row.canary }}</td><td>{{ row.users }}</td><td>{{ row.repeats }}</td><td>{% if row.never %}never took part{% else %}{{ row.holder_participations }}{% endif %}</td><td>{{ row.bits }}</td><td>{% if row.extracted %}<span class="yes">yes</span>{% else %}no{% endif %}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
</details>
{% endif %}
{% if grid or control_plot %}
<h3>Threat model</h3>
<p>The adversary holds the global model as it stands after a round, for instance everyone who has the keyboard on a phone, and asks it for the probability of sentences. They see no single user's update and do not deviate from the protocol. A server that looks at single updates learns far more than exposure shows. A low exposure is no guarantee: it speaks of these canaries and this attack only.</p>
{% endif %}
{% if not leakage %}{% include "hint" %}{% endif %}
</section>

{% if leakage %}{% include "leakage" %}{% endif %}

<section id="cost">
<h2>Cost and clients</h2>
{% if cost_tiles %}
{{ tiles_of(cost_tiles) }}
<div class="plots">
{% for svg in cost_plots %}{{ plot(svg) }}{% endfor %}
</div>
<p class="quiet">Bytes are what the model and the updates would weigh on the wire, uncompressed, at four bytes a parameter; time is that of the simulation, of the training rounds without evaluation, and says nothing about phones.</p>
<h3>Clients</h3>
<p>{{ participation | join(" ") }}</p>
{% if failure_reasons %}
<div class="scroll" tabindex="0">
<table>
<thead><tr><th>why clients failed</th><th>times</th></tr></thead>
<tbody>
{% for reason, times in failure_reasons %}
<tr><td class="text">{{ reason }}</td><td>{{ times }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
{% endif %}
{% else %}
<p>No round was completed.</p>
{% endif %}
</section>

<section id="meaning">
<h2>What each number means</h2>
<dl>
<dt>top-1 and top-3 recall</dt><dd>The share of words for which the word that was typed is the model's first suggestion, or among its first three, before any letter is typed. Words outside the vocabulary count as misses.</dd>
<dt>worst tenth of users</dt><dd>The mean recall of the tenth of the users with the lowest recall: what the model is worth to those it serves worst.</dd>
<dt>perplexity</dt><dd>How many equally likely words the model is in effect choosing from; lower is better. All words outside the vocabulary are one class, so it compares only models with the same vocabulary.</dd>
<dt>keystrokes saved</dt><dd>The share of taps, spaces included, that are saved by picking a suggestion as soon as the word is among three (or one, or five), with the letters typed so far narrowing them; over words in the vocabulary. Keyboards save much of it without a model, so hold it against the floors.</dd>
<dt>latency</dt><dd>Time of one prediction on one thread of the machine that ran the simulation: half (p50) and 95 % (p95) of predictions are faster.</dd>
<dt>trigram, central</dt><dd>What federated learning is held against: an interpolated Kneser-Ney trigram, and the same network trained in one place, both on the text of the same training users.</dd>
<dt>unigram, word list</dt><dd>What a keyboard does without looking at what was typed before: how often words are typed by the same training users, and no model at all.</dd>
<dt>exposure</dt><dd>log₂ of the number of candidates over the rank of the canary among them by the model's probabilities, in bits: 1 is the middle of the ranking, each further bit halves an attacker's search, and a sentence that was never seen averages {{ never_seen }}. <b>Sampled</b> exposure, which leads on this page, is among random sentences of the same kind and cannot exceed log₂ of their number plus one.{% if leakage %} <b>Exact</b> exposure is of the last two words alone, among all pairs of words in their place; <b>extrapolated</b> exposure is sampled exposure beyond its ceiling, by a law fitted to the random sentences, and is not shown where that does not fit.{% endif %}</dd>
<dt>extracted</dt><dd>Given its first {{ facts.config.canaries.prefix_words }} words, the model's likeliest continuation is the canary, word for word.</dd>
</dl>
</section>

<section id="record">
<h2>Config and provenance</h2>
<details><summary>Resolved config</summary>
<pre>{% for key, value in config %}{{ key }} = {{ value }}
{% endfor %}</pre>
</details>
<details><summary>Provenance</summary>
<pre>{% for key, value in provenance %}{{ key }} = {{ value }}
{% endfor %}{% if facts.status.get("digest") %}model digest = {{ facts.status.digest }}
{% endif %}</pre>
</details>
</section>
</main>
<footer>Written by fedsim{% if facts.provenance.fedsim %} {{ facts.provenance.fedsim }}{% endif %} from the tables in the run's folder. This page loads nothing from outside.</footer>
</body>
</html>
"""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f4; --card: #ffffff; --ink: #1c1d20; --muted: #5d6068; --grid: #e3e3df;
  --rule: #dddcd6; --accent: #00609c; --warn: #8f3a00; --warn-back: #fdf1e7; --heat: #a46ac2;
  --federated: #00609c; --trigram: #b54b00; --central: #00795a; --other: #6b6f78; --bar: #c6c9d0;
  --seq-0: #b184c9; --seq-1: #9a66b6; --seq-2: #81489f; --seq-3: #652c84; --seq-4: #430f62;
  --line-0: #00609c; --line-1: #b54b00; --line-2: #00795a; --line-3: #81489f;
  --line-4: #b3245f; --line-5: #7a6200; --line-6: #5d6068; --line-7: #00727f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1c1e22; --ink: #ebebe7; --muted: #a3a6ae; --grid: #33363c;
    --rule: #34373d; --accent: #7cc0f0; --warn: #ffbf8a; --warn-back: #33261b; --heat: #9a5fc0;
    --federated: #62b6f3; --trigram: #f49a52; --central: #45cfa4; --other: #9aa0ab; --bar: #50545d;
    --seq-0: #8d62a6; --seq-1: #a67cbf; --seq-2: #bf98d6; --seq-3: #d7b6ea; --seq-4: #f0dcfb;
    --line-0: #62b6f3; --line-1: #f49a52; --line-2: #45cfa4; --line-3: #c9a0e6;
    --line-4: #ff8fb4; --line-5: #d9c04a; --line-6: #b0b5bf; --line-7: #5fd3e0;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; scroll-behavior: smooth; }
body {
  margin: 0; background: var(--page); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, sans-serif;
}
main, header, footer { max-width: 62rem; margin: 0 auto; padding: 0 1.25rem; }
header { padding-top: 2rem; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, dl, ul { max-width: 46rem; margin: .5rem 0; overflow-wrap: break-word; }
a { color: var(--accent); }
nav { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; margin: .9rem 0 0; font-size: .9rem; }
section {
  background: var(--card); border: 1px solid var(--rule); border-radius: 10px;
  padding: 1.25rem 1.4rem; margin: 1.1rem 0;
}
.quiet, figcaption { color: var(--muted); font-size: .9rem; }
.state { border: 1px solid currentColor; border-radius: 1em; padding: 0 .6em; font-size: .85rem; }
.state.finished { color: var(--central); }
.state.other { color: var(--warn); }
.note {
  background: var(--warn-back); border-left: 4px solid var(--warn); border-radius: 4px;
  padding: .6rem .9rem; margin: .9rem 0; max-width: 46rem;
}
.tiles { display: flex; flex-wrap: wrap; gap: .9rem 1.9rem; margin: 1.1rem 0 .3rem; padding: 0; }
.tiles div { min-width: 7.5rem; }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--muted); font-size: .85rem; }
.plots {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: 1.2rem 1.6rem; margin: 1rem 0 .4rem;
}
.plots.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
.plots > * { min-width: 0; max-width: 36rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
.scroll { overflow-x: auto; max-width: 100%; }
table { border-collapse: collapse; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { padding: .4rem .75rem; text-align: right; border-bottom: 1px solid var(--rule); white-space: nowrap; }
th { font-weight: 600; color: var(--muted); vertical-align: bottom; }
th:first-child, td:first-child { text-align: left; padding-left: 0; }
.pinned th { white-space: normal; line-height: 1.3; }
.pinned th, .pinned td { padding-left: .35rem; padding-right: .35rem; }
.pinned th:first-child, .pinned td:first-child {
  position: sticky; left: 0; padding-left: 0; background: var(--card);
}
tbody th { color: var(--ink); }
td small, .heat small { display: block; color: var(--muted); font-size: .8rem; }
.key { display: inline-block; width: .7em; height: .7em; border-radius: 2px; margin-right: .45em; }
.key.federated { background: var(--federated); } .key.trigram { background: var(--trigram); }
.key.central { background: var(--central); } .key.other { background: var(--other); }
.heat td { text-align: center; min-width: 6.5rem; border: 3px solid var(--card); border-radius: 8px; }
.heat td.on { background: color-mix(in srgb, var(--heat) calc(var(--share) * 55%), var(--page)); }
.heat td.off { background: var(--page); color: var(--muted); }
.heat td small { color: inherit; }
.heat b { font-size: 1.1rem; }
.heat th { border: 0; vertical-align: middle; }
.heat thead th { text-align: center; }
.yes { color: var(--warn); font-weight: 600; }
tr.never td { color: var(--muted); }
.text { white-space: normal; text-align: left; overflow-wrap: anywhere; min-width: 12rem; }
dt { font-weight: 600; margin-top: .7rem; }
dd { margin: 0; color: var(--ink); }
details { margin: .6rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre {
  overflow-x: auto; background: var(--page); border-radius: 6px; padding: .8rem 1rem;
  font: .82rem/1.5 ui-monospace, Consolas, monospace; white-space: pre-wrap; overflow-wrap: anywhere;
}
footer { padding-bottom: 2.5rem; color: var(--muted); font-size: .85rem; }
@media (max-width: 40rem) {
  body { font-size: 15px; }
  main, header, footer { padding-left: .7rem; padding-right: .7rem; }
  section { padding: 1rem .85rem; }
  .tiles { gap: .8rem 1.2rem; } .tiles div { flex: 1 1 40%; }
  th, td { padding: .35rem .5rem; }
  .heat td { min-width: 4.4rem; padding: .35rem .2rem; white-space: normal; font-size: .82rem; }
  .heat td small { line-height: 1.3; }
}
@media print {
  body { background: none; } section { border: 0; padding: 0; break-inside: avoid-page; }
  nav { display: none; }
}
"""
