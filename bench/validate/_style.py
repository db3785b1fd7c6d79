"""The look of the report: one column, light or dark as the reader's system is; on narrow screens rows of tables become blocks."""

from __future__ import annotations

__all__ = ["CSS"]

CSS = """
:root { color-scheme: light dark; --back: #fff; --text: #1b1c1e; --soft: #55595e; --line: #cfd2d6; --card: #f5f6f7;
  --good: #14632f; --bad: #a81c14; --link: #0a4f9c; --band: #b9d7c2; }
@media (prefers-color-scheme: dark) { :root { --back: #15171a; --text: #e8e9eb; --soft: #b0b5bb; --line: #3c4147; --card: #1e2125;
  --good: #7fd79a; --bad: #ff9a90; --link: #93bfff; --band: #2f5a3f; } }
* { box-sizing: border-box; }
html { scroll-padding-top: .5rem; -webkit-text-size-adjust: 100%; text-size-adjust: 100%; }
body { margin: 0 auto; max-width: 72rem; padding: 1rem clamp(.75rem, 3vw, 2rem) 4rem; background: var(--back); color: var(--text);
  font: 1rem/1.5 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif; overflow-wrap: break-word; }
h1 { font-size: 1.7rem; line-height: 1.2; margin: .5rem 0; }
h2 { font-size: 1.35rem; line-height: 1.25; margin: 2.5rem 0 .5rem; border-bottom: 2px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1.1rem; margin: 0 0 .25rem; display: flex; flex-wrap: wrap; gap: .25rem .75rem; align-items: baseline; }
h3 a { color: inherit; text-decoration: none; overflow-wrap: anywhere; }
h3 a:hover { text-decoration: underline; }
p, ul, dl { margin: .4rem 0; }
a { color: var(--link); }
:focus-visible { outline: 3px solid var(--link); outline-offset: 2px; }
.soft { color: var(--soft); font-weight: 400; }
.good { color: var(--good); font-weight: 600; }
.bad { color: var(--bad); font-weight: 700; }
.total { font-size: 1.15rem; padding: .6rem .9rem; border-left: .4rem solid currentColor; background: var(--card); }
.claim { margin: 1.25rem 0; padding: .9rem clamp(.7rem, 2vw, 1.2rem); border: 1px solid var(--line); border-radius: .5rem; }
.claim.failed { border-color: var(--bad); border-width: 2px; }
.formula, .table, .figure { overflow-x: auto; }
.formula { display: flex; flex-wrap: wrap; align-items: baseline; justify-content: safe center;
  gap: .3rem 1.4rem; padding: .45rem 0; font-size: 1.08rem; }
.formula math { flex: none; margin: 0; width: max-content; }
nav ul { list-style: none; padding: 0; display: grid; gap: 0 1rem;
  grid-template-columns: repeat(auto-fill, minmax(min(16rem, 100%), 1fr)); }
nav li { padding: .2rem 0; overflow-wrap: anywhere; }
dt { font-weight: 600; margin-top: .7rem; }
dd { margin: 0; }
summary { cursor: pointer; padding: .35rem 0; color: var(--link); }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: var(--card); padding: .6rem .8rem; border-radius: .4rem;
  font: .85rem/1.45 ui-monospace, "SF Mono", Menlo, Consolas, "DejaVu Sans Mono", monospace; margin: .4rem 0; }
pre.wide { white-space: pre; overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0; border-bottom: 1px solid var(--line); }
.facts td { overflow-wrap: anywhere; }
th { font-weight: 600; }
tbody th { font-weight: 500; }
.checks tbody th { min-width: 12rem; }
td.number { white-space: nowrap; }
td.source { overflow-wrap: anywhere; min-width: 9rem; }
tr.failed { background: var(--card); box-shadow: inset .3rem 0 var(--bad); }
tr.failed th { padding-left: .6rem; }
span.room { display: flex; flex-direction: column; white-space: nowrap; }
span.room b { font-weight: inherit; }
svg.room { width: 5rem; height: .7rem; margin: .15rem 0 0 -.55rem; }
svg.room .band { fill: var(--band); } svg.room .expected { stroke: var(--soft); stroke-width: 1; stroke-dasharray: 2 1.5; }
svg.room .spread { stroke: currentColor; stroke-width: 1.2; } svg.room circle { fill: currentColor; }
figure { margin: .8rem 0; }
figcaption { font-size: .85rem; color: var(--soft); }
.figure { background: #fff; border: 1px solid var(--line); border-radius: .4rem; padding: .3rem;
  width: fit-content; max-width: 100%; }
.figure img { display: block; margin: 0 auto; max-width: 100%; height: auto; }
@media (max-width: 40rem) { .figure.wide img { max-width: none; width: 36rem; } }
@media (max-width: 58rem) {
  table.checks, table.checks tbody, table.checks tr, table.checks th, table.checks td { display: block; width: auto; }
  table.checks thead { position: absolute; width: 1px; height: 1px; overflow: hidden; clip-path: inset(50%); }
  table.checks tr { padding: .5rem 0; border-bottom: 1px solid var(--line); }
  table.checks tr.failed { padding-left: .7rem; }
  table.checks th, table.checks td { border: 0; padding: .08rem 0; white-space: normal; min-width: 0; }
  table.checks tr.failed th { padding-left: 0; }
  table.checks tbody th { font-weight: 600; }
  table.checks td { display: grid; grid-template-columns: 5.5rem minmax(0, 1fr); gap: .5rem; }
  span.room { flex-direction: row; align-items: center; }
  span.room b { min-width: 5.6rem; }
  table.checks td::before { content: attr(data-label); color: var(--soft); }
}
@media print { details::details-content { content-visibility: visible; } .claim { break-inside: auto; } nav { display: none; } }
"""
