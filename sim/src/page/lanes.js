// The lanes of VIPs and machines. Only what can be seen is drawn, and what is narrower than a pixel once.
const VIP_BAR = 17;
const SEEN = S.clients.length > 1 ? 9 : 6;
const NODE_BAR = 15;
const VIEW_BAR = 14;
const GAP = 9;
let tips = [];
let rows = [];
let lanesHeight = 0;

function layout() {
  rows = [];
  let y = 8;
  const section = (text) => {
    rows.push({ kind: "section", text, y: y + 9 });
    y += 18;
  };
  section(S.clients.length ? "VIPs: who answers, and below it who answers each client" : "VIPs: who answers");
  S.vips.forEach((vip, index) => {
    rows.push({ kind: "vip", index, y, height: VIP_BAR + S.clients.length * (SEEN + 1) + 1 });
    y += VIP_BAR + S.clients.length * (SEEN + 1) + GAP;
  });
  y += 6;
  section("Machines: daemon, view, lease, guardian");
  S.nodes.forEach((node, index) => {
    const height = NODE_BAR + VIEW_BAR + (node.leases.length ? 7 : 0) + (node.guardian.length ? 5 : 0) + 3;
    rows.push({ kind: "node", index, y, height });
    y += height + GAP + 3;
  });
  lanesHeight = y;
  const longest = Math.max(...S.vips.map((v) => v.name.length), ...S.nodes.map((n) => n.name.length + 3), 8);
  view.left = Math.min(Math.max(longest * 7.6 + 26, 118), 250);
}

function tip(title, ...lines) {
  tips.push({ title, lines: lines.filter(Boolean) });
  return ` data-t="${tips.length - 1}"`;
}
const fits = (text, px, size = 6.4) => text.length * size + 8 <= px;
const shorten = (text, px, size = 6.4) => {
  const room = Math.floor((px - 8) / size);
  return text.length <= room ? text : room > 3 ? `${text.slice(0, room - 1)}…` : "";
};

// Draws those of some spans that are in the window; `draw` gets the span and its place on the screen.
function drawSpans(spans, draw, sorted = true) {
  let painted = -1;
  const result = [];
  for (let i = sorted ? firstAt(spans, view.from) : 0; i < spans.length; i++) {
    const span = spans[i];
    if (span.from > view.to) {
      if (sorted) break;
      continue;
    }
    if (span.to < view.from) continue;
    const left = Math.max(x(Math.max(span.from, view.from)), view.left);
    const right = Math.min(x(Math.min(span.to, view.to)), view.width - RIGHT);
    if (right - left < 0.6 && left < painted) continue;
    const width = Math.max(right - left, 1.2);
    painted = left + width;
    result.push(draw(span, left, width));
  }
  return result.join("");
}
const rect = (left, y, width, height, attributes) =>
  `<rect x="${left.toFixed(1)}" y="${y}" width="${width.toFixed(1)}" height="${height}" ${attributes}/>`;

function drawVip(row) {
  const vip = S.vips[row.index];
  const { y } = row;
  let out = rect(view.left, y, plotWidth(), VIP_BAR, `class="track"${tip(vip.name, "nobody answers", vip.detail)}`);
  out += drawSpans(vip.held.filter((span) => !span.answers), (span, left, width) =>
    rect(left, y + 3.5, width, VIP_BAR - 7, `fill="${colour(span.node)}" fill-opacity=".16" stroke="${colour(span.node)}" stroke-dasharray="2 2"${tip(
      `${nodeName(span.node)} has ${vip.name} and does not answer`, between(span), span.text)}`), false);
  out += drawSpans(vip.pieces, (piece, left, width) => {
    const height = VIP_BAR / piece.holders.length;
    return piece.holders.map((span, slot) => {
      const top = y + slot * height;
      const name = nodeName(span.node);
      let one = rect(left, top, width, height, `fill="${colour(span.node)}"${tip(`${name} answers for ${vip.name}`, between(span), span.text)}`);
      if (height > 12 && fits(name, width)) {
        one += `<text x="${left + 5}" y="${top + 12.5}" class="${onColour(span.node)}" pointer-events="none">${safe(name)}</text>`;
      }
      return one;
    }).join("");
  });
  // The machines' stretches begin when the address was added, an overlap at the look after that.
  const overlaps = vip.overlaps.map((span) => {
    const shared = vip.pieces.find((p) => p.holders.length > 1 && p.from <= span.from && span.from <= p.to && span.from - p.from <= 2000);
    return shared ? { ...span, drawnFrom: shared.from } : span;
  });
  out += drawSpans(overlaps, (span, left, width) => {
    const early = span.drawnFrom === undefined ? 0 : left - Math.max(x(span.drawnFrom), view.left);
    left -= early;
    width += early;
    const [a, b] = span.nodes.map(nodeName);
    const kind = span.excuse === null ? "forbidden" : "allowed";
    const why = span.excuse === null ? "nothing allows it" : `allowed for a while: ${span.excuse}`;
    const both = `${a} + ${b}`;
    const label = fits(both, width) ? `<rect x="${left + width / 2 - both.length * 3.4 - 4}" y="${y + 2}" width="${both.length * 6.8 + 8}" height="${VIP_BAR - 4}" rx="4" class="pill" pointer-events="none"/><text x="${left + width / 2}" y="${y + 12.5}" text-anchor="middle" class="both" pointer-events="none">${safe(both)}</text>` : "";
    return rect(left, y - 1, Math.max(width, 2.5), VIP_BAR + 2, `class="overlap ${kind}"${tip(`${a} and ${b} both answer for ${vip.name}`, between(span), why)}`) + label;
  }, false);
  S.clients.forEach((client, index) => {
    const top = y + VIP_BAR + 2 + index * (SEEN + 1);
    out += drawSpans(vip.seenBy[index], (span, left, width) => {
      if (span.by === null) {
        const label = length(span.to - span.from);
        let one = rect(left, top, Math.max(width, 2), SEEN, `class="dark"${tip(`${client} gets no answer from ${vip.name}`, between(span))}`);
        if (index === 0 && fits(label, width + 26)) {
          one += `<text x="${left + width / 2}" y="${y + 12.5}" text-anchor="middle" class="dark-text" pointer-events="none">${label}</text>`;
        }
        return one;
      }
      const two = vip.overlaps.find((o) => o.from < span.to && o.to > span.from && o.nodes.includes(span.by));
      const beside = two && nodeName(two.nodes[0] === span.by ? two.nodes[1] : two.nodes[0]);
      return rect(left, top, width, SEEN, `fill="${colour(span.by)}" fill-opacity=".5"${tip(
        `${client} is answered for ${vip.name} by ${nodeName(span.by)}`, between(span), two && `from ${seconds(two.from)} to ${seconds(two.to)} s ${beside} answered too`)}`);
    });
  });
  return out;
}

function drawNode(row) {
  const node = S.nodes[row.index];
  const { y } = row;
  let out = "";
  const mature = node.mature;
  out += drawSpans(node.states, (span, left, width) => {
    const running = span.state === "running" || span.state === "leaving";
    const look = running ? `fill="${colour(row.index)}" fill-opacity="${span.state === "leaving" ? 0.12 : 0.26}"`
      : `class="${span.state === "killed" ? "dead" : span.state}"`;
    let one = rect(left, y, width, NODE_BAR, `${look}${tip(`${node.name}: ${span.text}`, between(span), node.detail)}`);
    const label = span.state === "running" ? "" : shorten(span.text, width);
    if (label) {
      const light = span.state === "killed" ? "on-dark" : "";
      one += `<text x="${left + 5}" y="${y + 11.5}" class="${light}" pointer-events="none">${safe(label)}</text>`;
    }
    return one;
  });
  // Whoever may own VIPs has the full colour along the top.
  out += drawSpans(mature.map(([from, to]) => ({ from, to })), (span, left, width) =>
    rect(left, y, width, 3.5, `fill="${colour(row.index)}"${tip(`${node.name} may own VIPs`, between(span))}`));
  const top = y + NODE_BAR + 1;
  out += drawSpans(node.views, (span, left, width) => {
    const odd = node.views.indexOf(span) % 2 ? "odd" : "";
    const label = shorten(members(span), width, 6) || shorten(span.view, width, 6);
    let one = rect(left, top, width, VIEW_BAR - 2, `class="view ${odd} ${span.primary ? "" : "secondary"}" fill-opacity="1" pointer-events="all"${tip(
      `${node.name} is in view ${span.view}`, `members: ${span.members.map(nodeName).join(", ")}`, span.primary ? "" : "not primary: it may hold nothing", between(span), span.ended && `it ended because ${span.ended}`, heard(node, span.from, span.to))}`);
    if (label) one += `<text x="${left + 4}" y="${top + 9.5}" class="tiny" pointer-events="none">${safe(label)}</text>`;
    return one;
  });
  let below = top + VIEW_BAR + 1;
  if (node.leases.length) {
    out += drawSpans(node.leases, (span, left, width) => {
      let one = rect(left, below, width, 4, `fill="${colour(row.index)}"${tip(`${node.name} may answer: its lease runs`, between(span), span.ended ? "then it was given back, or went with the power" : span.to < S.end ? "then it was over, and not renewed" : "", `told ${span.told.length} times, last at ${seconds(span.told[span.told.length - 1][0])} s until ${seconds(span.told[span.told.length - 1][1])} s`)} data-lease="${row.index}"`);
      if (span.to < S.end && span.to <= view.to && !span.ended) {
        one += `<line x1="${left + width}" x2="${left + width}" y1="${below - 2}" y2="${below + 6}" class="lease-end"/>`;
      }
      return one;
    });
    out += drawSpans(node.shut.map(([from, to]) => ({ from, to })), (span, left, width) =>
      rect(left, below, width, 4, `class="shut"${tip(`${node.name}: the gate is shut, and nothing answers`, between(span))}`));
    below += 7;
  }
  if (node.guardian.length) {
    out += drawSpans(node.guardian.filter((span) => span.state !== "absent"), (span, left, width) =>
      rect(left, below, width, 3, `class="guard-${span.state}"${tip(`guardian of ${node.name}: ${span.text}`, between(span))}`));
  }
  return out;
}

// What a node thought of its links while it was in a view.
function heard(node, from, to) {
  const not = new Set(node.links.filter((l) => l.state !== "two-way" && l.from < to && l.to > from).map((l) => `${nodeName(l.peer)} ${l.state} from ${seconds(l.from)} s`));
  return not.size ? `links: ${[...not].slice(0, 4).join("; ")}` : "";
}

function drawNames() {
  let out = "";
  for (const row of rows) {
    if (row.kind === "section") {
      out += `<text x="8" y="${row.y}" class="section">${safe(row.text)}</text>`;
      continue;
    }
    const name = row.kind === "vip" ? S.vips[row.index].name : S.nodes[row.index].name;
    const label = shorten(name, view.left - (row.kind === "vip" ? 8 : 26), 7.4) || name.slice(0, 4);
    const detail = row.kind === "vip" ? S.vips[row.index].detail : S.nodes[row.index].detail;
    out += `<g${tip(name, detail)}>`;
    if (row.kind === "node") out += `<rect x="8" y="${row.y + 2}" width="11" height="11" rx="3" fill="${colour(row.index)}"/>`;
    out += `<text x="${row.kind === "vip" ? 8 : 25}" y="${row.y + 12}" class="name">${safe(label)}</text></g>`;
    const small = (text, y) => `<text x="${view.left - 7}" y="${y}" text-anchor="end" class="tiny">${safe(text)}</text>`;
    if (row.kind === "vip") {
      S.clients.forEach((client, index) => {
        if (SEEN >= 6 && S.clients.length <= 4) out += small(shorten(client, 74, 5), row.y + VIP_BAR + SEEN + 1 + index * (SEEN + 1));
      });
    } else {
      out += small("view", row.y + NODE_BAR + 10);
      if (S.nodes[row.index].leases.length) out += small("lease", row.y + NODE_BAR + VIEW_BAR + 7);
    }
    out += `<line x1="0" x2="${view.width}" y1="${row.y + row.height + 3}" y2="${row.y + row.height + 3}" class="rule"/>`;
  }
  return out;
}

const PATTERNS = `<defs>
<pattern id="hatch-red" width="7" height="7" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="3" height="7" fill="var(--red)"/><rect x="3" width="1.4" height="7" fill="var(--card)"/></pattern>
<pattern id="hatch-amber" width="6" height="6" patternUnits="userSpaceOnUse" patternTransform="rotate(45)"><rect width="6" height="6" fill="var(--amber)" fill-opacity=".14"/><rect width="2" height="6" fill="var(--amber)" fill-opacity=".5"/></pattern>
<pattern id="hatch-frozen" width="6" height="6" patternUnits="userSpaceOnUse"><rect width="6" height="6" fill="var(--soft)" fill-opacity=".12"/><path d="M0 3h6M3 0v6" stroke="var(--soft)" stroke-opacity=".5"/></pattern>
</defs>`;
