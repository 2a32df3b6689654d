"""The CSS of all pages, as Python: a bundle of Flower's carries no other text files."""

STYLE = """
:root {
  color-scheme: light dark;
  --page: #f6f6f4; --card: #ffffff; --ink: #1c1d20; --muted: #5d6068; --grid: #e3e3df;
  --rule: #dddcd6; --accent: #00609c; --warn: #8f3a00; --warn-back: #fdf1e7; --heat: #a46ac2; --edge: #00000038;
  --federated: #00609c; --trigram: #b54b00; --central: #00795a; --other: #6b6f78; --bar: #c6c9d0;
  --seq-0: #b184c9; --seq-1: #9a66b6; --seq-2: #81489f; --seq-3: #652c84; --seq-4: #430f62;
  --line-0: #00609c; --line-1: #b54b00; --line-2: #00795a; --line-3: #81489f;
  --line-4: #b3245f; --line-5: #7a6200; --line-6: #5d6068; --line-7: #00727f;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #131417; --card: #1c1e22; --ink: #ebebe7; --muted: #a3a6ae; --grid: #33363c;
    --rule: #34373d; --accent: #7cc0f0; --warn: #ffbf8a; --warn-back: #33261b; --heat: #9a5fc0;
    --edge: #ffffff3d;
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
.run header, .run footer, .contents { max-width: 78rem; margin: 0 auto; padding: 0 1.25rem; }
.run header { padding-top: 2rem; }
.run main { max-width: none; margin: 0; padding: 0; min-width: 0; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: 0 0 .3rem; overflow-wrap: anywhere; }
h2 { font-size: 1.2rem; margin: 0 0 .6rem; }
h3 { font-size: 1rem; margin: 1.6rem 0 .4rem; }
p, dl, ul { max-width: 46rem; margin: .5rem 0; overflow-wrap: break-word; }
a { color: var(--accent); }
nav {
  position: sticky; top: 0; z-index: 2; display: flex; gap: .2rem 1.1rem; margin: .9rem 0 0;
  padding: .5rem 0; font-size: .9rem; background: var(--page); border-bottom: 1px solid var(--rule);
  overflow-x: auto; white-space: nowrap;
}
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }
nav a[aria-current] { color: var(--ink); font-weight: 600; }
nav .inner { display: none; }
section, article { scroll-margin-top: 3.2rem; }
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
.tiles { display: flex; flex-wrap: wrap; gap: .9rem 1.4rem; margin: 1.1rem 0 .3rem; padding: 0; }
.tiles div { min-width: 7.5rem; }
.tiles b { display: block; font-size: 1.45rem; line-height: 1.2; font-variant-numeric: tabular-nums; }
.tiles span { color: var(--muted); font-size: .85rem; }
.plots {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 24rem), 1fr));
  gap: 1.2rem 1.6rem; margin: 1rem 0 .4rem;
}
.plots > p { align-self: center; margin: 0; }
.plots > p:nth-child(odd) { grid-column: 1 / -1; max-width: 46rem; }
.notes { margin-top: .6rem; }
.notes > p { margin: 0 0 .6rem; break-inside: avoid; }
.beside > .tiles { align-content: flex-start; }
@media (min-width: 75rem) {
  .contents {
    display: grid; grid-template-columns: 11rem minmax(0, 1fr); gap: 1.6rem; align-items: start;
  }
  nav {
    top: 1.1rem; flex-direction: column; gap: .4rem; margin: 1.1rem 0 0; padding: .2rem 0;
    background: none; border: 0; white-space: normal; max-height: calc(100vh - 2.2rem);
    overflow-y: auto;
  }
  nav .inner { display: block; padding-left: .9rem; font-size: .85rem; line-height: 1.35; }
  section, article { scroll-margin-top: 1rem; }
  .beside { display: grid; grid-template-columns: minmax(0, 1fr) 17rem; gap: 0 2.2rem; }
  .beside > .tiles { flex-direction: column; gap: 1.1rem; margin: .3rem 0; padding-left: 1.6rem;
    border-left: 1px solid var(--rule); }
  .notes { columns: 2; column-gap: 2.2rem; }
}
.plots.small { grid-template-columns: repeat(auto-fill, minmax(min(100%, 16rem), 1fr)); }
.plots > * { min-width: 0; max-width: 36rem; }
svg { display: block; width: 100%; height: auto; overflow: visible; }
figure { margin: 0; position: relative; }
.cross { stroke: var(--muted); stroke-width: 1; stroke-dasharray: 2 2; visibility: hidden; }
.values {
  position: absolute; top: 2rem; z-index: 1; padding: .25rem .55rem; border-radius: 5px;
  background: var(--ink); color: var(--card); font-size: .8rem; line-height: 1.4;
  pointer-events: none; white-space: nowrap; font-variant-numeric: tabular-nums;
}
.values span { display: block; }
.values span:first-child { opacity: .75; }
svg[data-hover] { cursor: crosshair; touch-action: pan-y; }
/* Shadows at the edges behind which a table goes on; its own background hides them at its ends. */
.scroll {
  overflow-x: auto; max-width: 100%;
  background:
    linear-gradient(to right, var(--card) 40%, transparent) 0 / 3rem 100%,
    linear-gradient(to left, var(--card) 40%, transparent) 100% / 3rem 100%,
    linear-gradient(to right, var(--edge), transparent) 0 / 1rem 100%,
    linear-gradient(to left, var(--edge), transparent) 100% / 1rem 100%;
  background-repeat: no-repeat; background-attachment: local, local, scroll, scroll;
}
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
.wide { width: 100%; }
.wide th { white-space: normal; line-height: 1.3; }
.planted th:not(:first-child) { max-width: 8rem; }
.canary { white-space: normal; text-align: left; overflow-wrap: anywhere; min-width: 17rem; }
.canary b { color: var(--warn); }
.keys th, .keys td { text-align: left; }
.keys td:first-child { white-space: pre-wrap; min-width: 5rem; }
.keys .offer {
  display: inline-block; min-width: 5.4rem; padding: .15rem .5rem; border-radius: 6px;
  background: var(--page); text-align: center;
}
.keys .caret { border-left: 2px solid var(--accent); margin-left: 1px; }
.keys small { display: inline; margin-left: .35rem; }
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
  .heat td { min-width: 0; padding: .35rem .15rem; white-space: normal; font-size: .8rem; }
  .heat td small { line-height: 1.3; font-size: .75rem; }
  .heat th { padding: .3rem .25rem .3rem 0; white-space: normal; }
  .keys th, .keys td { padding: .35rem .2rem; }
  .keys td:first-child { min-width: 3.6rem; }
  .keys .offer { display: block; min-width: 0; padding: .1rem .2rem; overflow-wrap: anywhere; white-space: normal; }
  .keys small { display: block; margin: 0; text-align: center; }
  .planted { font-size: .8rem; }
  .planted th, .planted td { padding: .35rem .25rem; }
  .canary { min-width: 7.5rem; }
  /* Of 11.5 points in a drawing that is made smaller than it was drawn. */
  svg text[style*="11.5px"] { font-size: 13.5px !important; }
}
@media print {
  body { background: none; } section { border: 0; padding: 0; break-inside: avoid-page; }
  nav, .values, .cross { display: none; }
}
"""
