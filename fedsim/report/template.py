"""The HTML of a run's report, as Python: a bundle of Flower's carries no other text files."""

PAGE = """
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{{ facts.federated }} on {{ facts.config.data.name }}: {{ facts.name }}</title>
<style>
{{ style }}
</style>
</head>
<body class="run">
{% macro plot(svg, caption="") %}
<figure>{{ svg }}{% if caption %}<figcaption>{{ caption }}</figcaption>{% endif %}</figure>
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
</header>
<div class="contents">
<nav aria-label="Contents"><a href="#summary">In short</a><a href="#results">Results</a>{% if offers %}<a href="#keyboard">The keyboard</a>{% endif %}<a href="#learning">Learning</a><a href="#users">Users</a><a href="#memorization">Memorization</a>{% if leakage %}<a href="#leakage">Leakage</a>{% for card in leakage.cards %}<a class="inner" href="#leakage-{{ loop.index }}">{{ card.title }}</a>{% endfor %}{% endif %}<a href="#cost">Cost</a><a href="#meaning">What the numbers mean</a><a href="#record">Config</a></nav>
<main>

<section id="summary">
<h2>In short</h2>
<div class="beside">
<div>
{% for paragraph in summary %}
<p>{{ paragraph }}</p>
{% endfor %}
<p class="note"><strong>{{ privacy[0] }}</strong> {{ privacy[1] }}</p>
{% if statement %}
<details><summary>The privacy statement</summary><pre>{{ statement }}</pre></details>
{% endif %}
</div>
{% if tiles %}{{ tiles_of(tiles) }}{% endif %}
</div>
</section>

<section id="results">
<h2>Results on unseen test users</h2>
{% if results %}
<div class="scroll pinned" tabindex="0">
<table class="wide">
<thead><tr><th>model</th><th>top-1 recall</th><th>top-3 recall</th><th>worst tenth of users, top-1</th><th>perplexity</th><th>keystrokes saved with 3 suggestions</th><th>with 1</th><th>with 5</th><th>latency<br>p50 / p95</th><th>size</th></tr></thead>
<tbody>
{% for row in results %}
<tr><td>{{ model(row) }}</td><td>{{ row.top1 }}<small>{{ row.top1_interval }}</small></td><td>{{ row.top3 }}<small>{{ row.top3_interval }}</small></td><td>{{ row.worst1 }}<small>top-3 {{ row.worst3 }}</small></td><td>{{ row.perplexity }}</td><td>{{ row.savings }}</td><td>{{ row.savings1 }}</td><td>{{ row.savings5 }}</td><td>{{ row.latency }}</td><td>{{ row.size }}</td></tr>
{% endfor %}
</tbody>
</table>
</div>
<div class="notes">
<p class="quiet">± is the half width of a 95 % interval over users: recall is a ratio of sums over users, its variance is that of the ratio linearised by user (Student's t; none is given for fewer than ten users), so one talkative user counts as one person. It says how much another draw of test users would change the number, not how much another training seed would. {% if results | length > 1 %}The differences in the summary are paired by user: models are compared on the same people.{% endif %}</p>
{% if averaged %}
<p class="quiet">{{ averaged }}</p>
{% endif %}
{% if floors %}
<p class="quiet">Unigram and word list are floors: keyboards that do not look at what was typed before. The one offers the words that are typed most often among those that the letters so far leave over, the other has no model at all and offers a word once no more are left over than it shows. What a model saves beyond them it owes to context.</p>
{% endif %}
</div>
{% else %}
<p>There are no results on test users: the run did not get to its end.</p>
{% endif %}
</section>

{% if offers %}
<section id="keyboard">
<h2>What the keyboard would offer</h2>
<div class="beside">
<div class="scroll" tabindex="0">
<table class="keys">
<thead><tr><th>typed</th>{% for _ in offers[0].offers %}<th>{{ "suggestion " if loop.first }}{{ loop.index }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in offers %}
<tr><td>{{ row.typed }}<span class="caret"></span></td>{% for word, share in row.offers %}<td><span class="offer">{{ word }}</span><small>{{ share }}</small></td>{% endfor %}</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="quiet">Beside each suggestion: how likely the model thinks that it is the next word, whatever letters are typed. The beginnings are the model's own: nothing, then each word that it offers first, then one letter more. Nobody's text is needed for them. Try others: <code>{{ program }} suggest RUN "how are "</code>, with the path of the folder {{ facts.name }} for RUN.</p>
</div>
</section>
{% endif %}

<section id="learning">
<h2>Learning curves</h2>
{% if curves %}
<div class="plots">
{% for svg in curves %}{{ plot(svg) }}{% endfor %}
<p class="quiet">The curve is scored on validation users. {% if results %}The horizontal lines and the diamond are final recalls on the test users, other people, so a gap between curve and diamond is a difference between people and not between models. {% endif %}The training loss is over everything that the users of a round trained on, canary users included.</p>
</div>
{% else %}
<p>No round was completed, so there is nothing to plot.</p>
{% endif %}
</section>

<section id="users">
<h2>How recall differs between users</h2>
{% if distribution %}
<div class="plots">{{ plot(distribution) }}<p>{{ better_for | join(" ") }}</p></div>
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
<p class="quiet">Read: 10 % of the users have at most the recall in the first column, half of them at most the one under 50 %. A user with few words has a noisy recall, which widens the spread.</p>
{% else %}
<p>Scores of single test users are written at the end of a run; this one did not get there.</p>
{% endif %}
</section>

<section id="memorization">
<h2>What the model memorized</h2>
{% if grid %}
<p>Canaries are random five-word sentences that synthetic users hold among ordinary text. A model that memorized nothing ranks them like any other random sentence.</p>
<h3>Mean sampled exposure after round {{ facts.exposure["round"].max() }}, by holders and copies each</h3>
<div class="beside">
<div class="scroll" tabindex="0">
<table class="heat">
<thead><tr><th>held by</th>{% for head in grid.heads %}<th>{{ head }}</th>{% endfor %}</tr></thead>
<tbody>
{% for row in grid.rows %}
<tr><th>{{ row.head }}</th>
{% for cell in row.cells %}
{% if cell is none %}<td class="off"></td>
{% elif not cell.seen %}<td class="off">never<br>took part</td>
{% else %}<td class="on" style="--share:{{ cell.share }}"><b>{{ cell.bits }}</b> bits<small>n = {{ cell.seen }}</small><small>by chance {{ cell.chance }}</small><small>{{ cell.extracted }} of {{ cell.seen }} extracted</small><small>{{ cell.rounds }} rounds</small></td>
{% endif %}
{% endfor %}
</tr>
{% endfor %}
</tbody>
</table>
</div>
<p class="quiet">n: canaries behind the mean. Control: {{ never_seen }} bits, what a sentence that was never seen averages. At most {{ "%.2f" | format(facts.ceiling_bits) }} bits can be measured with {{ "{:,}".format(facts.config.canaries.references) }} reference sentences. By chance: how often as many canaries that were never trained on would have such a mean or a higher one (Fisher's method, an upper bound). Rounds: in which a holder took part, summed over holders, on average. Canaries whose holders never took part are left out of every mean.{% if left_out %} {{ left_out }}{% endif %}</p>
</div>
<h3>Sampled exposure by round</h3>
<div class="plots small">
{% for svg in exposure_curves %}{{ plot(svg) }}{% endfor %}
</div>
<p class="quiet">Dotted: {{ never_seen }} bits, the mean of a sentence that was never seen. Solid line on top: the ceiling. A line begins when the first holder took part.</p>
{% elif facts.plants_canaries and facts.exposure | length %}
<p>{{ left_out }} So this report says nothing about memorization.</p>
{% elif facts.plants_canaries %}
<p>Canaries are planted, but no measurement was made before the run stopped.</p>
{% else %}
<p>No canaries were planted in this run, so this report says nothing about memorization.</p>
{% endif %}
{% if control_plot %}
<h3>Check: canaries that nobody holds</h3>
<div class="plots">{{ plot(control_plot) }}
<p class="quiet">{{ facts.controls | length }} control canaries average {{ control_mean }}; chance alone gives {{ never_seen }}. An average far from it would mean that the measurement is off, not that something was memorized.</p>
</div>
{% endif %}
{% if canaries %}
<h3>Planted canaries</h3>
<details{% if canaries | length <= 30 %} open{% endif %}>
<summary>{{ canaries | length }} of {{ facts.planted | length }} canaries, the most exposed first</summary>
<p class="quiet">Where the rest of a sentence is set bold, the model writes it when its first {{ facts.config.canaries.prefix_words }} words are typed.</p>
<div class="scroll" tabindex="0">
<table class="wide planted">
<thead><tr><th>sentence</th><th>held by</th><th>copies each</th><th>rounds that a holder took part in</th><th>sampled exposure, bits</th><th>extracted</th></tr></thead>
<tbody>
{% for row in canaries %}
<tr{% if row.never %} class="never"{% endif %}><td class="canary">{{ row.given }} {% if row.extracted %}<b>{{ row.rest }}</b>{% else %}{{ row.rest }}{% endif %}</td><td>{{ row.users }}</td><td>{{ row.repeats }}</td><td>{% if row.never %}none{% else %}{{ row.holder_participations }}{% endif %}</td><td>{{ row.bits }}</td><td>{% if row.extracted %}<span class="yes">yes</span>{% else %}no{% endif %}</td></tr>
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
</div>
<footer>Written by fedsim{% if facts.provenance.fedsim %} {{ facts.provenance.fedsim }}{% endif %} from the tables in the run's folder. This page loads nothing from outside.</footer>
<script>{{ script }}</script>
</body>
</html>
"""
