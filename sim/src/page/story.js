"use strict";
// The story, and what is worked out from it once. Times are microseconds.
const S = JSON.parse(document.getElementById("story").textContent);
const $ = (id) => document.getElementById(id);
const PALETTE = 12;
const LIGHT = new Set([1, 4, 6, 9, 11, 5]); // colours that carry dark text
const colour = (node) => `var(--n${node % PALETTE})`;
const onColour = (node) => (LIGHT.has(node % PALETTE) ? "on-light" : "on-dark");
const safe = (text) => String(text).replace(/[&<>"']/g, (c) => `&#${c.charCodeAt(0)};`);
const nodeName = (node) => S.nodes[node].name;
const members = (view) => `${view.view} {${view.members.map(nodeName).join(", ")}}`;

// 4213000 -> "4.213"; more digits where they matter.
function seconds(t, digits = 3) {
  return (t / 1e6).toFixed(digits);
}
function length(t) {
  if (t < 1000) return `${t} µs`;
  if (t < 1e7) return `${t % 1000 && t < 1e5 ? (t / 1000).toFixed(1) : Math.round(t / 1000)} ms`;
  return `${(t / 1e6).toFixed(1)} s`;
}
const between = (span) => `${seconds(span.from)} – ${seconds(span.to)} s, ${length(span.to - span.from)}`;

// Pieces of a VIP's lane in which the same machines answer, so that two at once share the height.
function pieces(vip) {
  const turns = [];
  for (const span of vip.held) {
    if (!span.answers) continue;
    turns.push([span.from, 1, span], [span.to, 0, span]);
  }
  turns.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
  const result = [];
  let holders = [];
  let since = 0;
  for (const [at, begins, span] of turns) {
    if (at > since && holders.length) result.push({ from: since, to: at, holders: holders.slice() });
    if (begins) holders.push(span);
    else holders = holders.filter((one) => one !== span);
    holders.sort((a, b) => a.node - b.node);
    since = at;
  }
  return result;
}
for (const vip of S.vips) {
  vip.pieces = pieces(vip);
  vip.seenBy = S.clients.map((_, client) => vip.seen.filter((span) => span.client === client));
}

// The first of some sorted spans that may reach to `t` or beyond; spans of one lane do not contain each other.
function firstAt(spans, t) {
  let low = 0;
  let high = spans.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (spans[middle].to < t) low = middle + 1;
    else high = middle;
  }
  return low;
}
function countBefore(sorted, t, key) {
  let low = 0;
  let high = sorted.length;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (key(sorted[middle]) < t) low = middle + 1;
    else high = middle;
  }
  return low;
}
