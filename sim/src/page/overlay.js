// What lies over the lanes: the grid, marks, messages, the overview and the axis.
const LABEL_ROWS = 4;
const LABEL_HEIGHT = 14;
const MINI = 34;
const wanted = { agreement: true, link: false, leave: true, unreadable: true, heartbeat: false, echo: false };
let messagesShown = false;
const DRAWN_MAX = 2500;

const inWindow = (mark) => mark.at >= view.from && mark.at <= view.to;

function drawGrid() {
  return ticks(90).at.map((t) => `<line x1="${x(t)}" x2="${x(t)}" y1="0" y2="${lanesHeight}" class="grid"/>`).join("");
}

function drawMarks() {
  let out = "";
  for (const mark of S.marks) {
    if (!inWindow(mark)) continue;
    const at = x(mark.at).toFixed(1);
    const about = tip(mark.broken ? "a promise is broken" : "fault", `at ${seconds(mark.at)} s`, mark.text);
    out += `<line x1="${at}" x2="${at}" y1="0" y2="${lanesHeight}" class="${mark.broken ? "violation" : "fault"}"/>`;
    for (const node of mark.nodes) {
      const row = rows.find((row) => row.kind === "node" && row.index === node);
      if (row) out += `<path d="M${at} ${row.y + 9}l-5 -9h10z" fill="var(--ink)"${about}/>`;
    }
    out += `<line x1="${at}" x2="${at}" y1="0" y2="${lanesHeight}" class="hit"${about}/>`;
  }
  if (view.pin !== null && view.pin >= view.from && view.pin <= view.to) {
    out += `<line x1="${x(view.pin)}" x2="${x(view.pin)}" y1="0" y2="${lanesHeight}" class="pin" pointer-events="none"/>`;
  }
  return out;
}

function drawMessages() {
  if (!messagesShown) return "";
  const { kinds, sent } = S.messages;
  const longest = 1e6;
  const begin = countBefore(sent, view.from - longest, (m) => m[0]);
  let visible = [];
  for (let i = begin; i < sent.length && sent[i][0] <= view.to; i++) {
    if (sent[i][1] >= view.from && wanted[kinds[sent[i][4]]]) visible.push(sent[i]);
  }
  const found = visible.length;
  const note = (text) => { messageNote = text; };
  let messagesIn = visible;
  if (found > DRAWN_MAX) {
    messagesIn = visible.filter((m) => kinds[m[4]] !== "heartbeat" && kinds[m[4]] !== "echo");
    if (messagesIn.length > DRAWN_MAX) messagesIn = [];
    note(`zoom in to see all ${found} messages`);
  } else {
    const left = S.messages.seen - sent.length;
    note(left > 0 ? `${found} messages (of heartbeats and echoes the page carries a part)` : `${found} messages`);
  }
  const hover = messagesIn.length <= 900;
  const middle = {};
  for (const row of rows) if (row.kind === "node") middle[row.index] = row.y + NODE_BAR / 2;
  let out = "";
  for (const [left, arrives, from, to, kind, lost, text] of messagesIn) {
    const [x1, y1] = [x(left), middle[from]];
    let [x2, y2] = [x(arrives), middle[to]];
    if (y1 === undefined || y2 === undefined) continue;
    if (lost) [x2, y2] = [x1 + (x2 - x1) * 0.6, y1 + (y2 - y1) * 0.6];
    const way = `M${x1.toFixed(1)} ${y1}L${x2.toFixed(1)} ${y2.toFixed(1)}`;
    out += `<path d="${way}" class="message m-${kinds[kind]} ${lost ? "lost" : ""}" ${lost ? "" : 'marker-end="url(#arrow)"'}/>`;
    if (lost) out += `<path d="M${x2 - 3} ${y2 - 3}l6 6m0 -6l-6 6" stroke="var(--red)" stroke-width="1.5"/>`;
    if (hover) {
      out += `<path d="${way}" class="hit"${tip(`${kinds[kind]}: ${nodeName(from)} → ${nodeName(to)}`, `${seconds(left, 4)} – ${seconds(arrives, 4)} s`, text, lost ? "lost on the wire" : "")}/>`;
    }
  }
  return `<defs><marker id="arrow" viewBox="0 0 6 6" refX="5.5" refY="3" markerWidth="7" markerHeight="7" markerUnits="userSpaceOnUse" orient="auto"><path d="M0 .5L6 3L0 5.5z" fill="context-stroke"/></marker></defs>${out}`;
}
let messageNote = "";

// The axis, and what the marks say: each label in the first row that has room.
function drawHead() {
  const { at, digits } = ticks(90);
  const labels = S.marks.filter(inWindow);
  const rowsOfLabels = new Array(LABEL_ROWS).fill(0);
  let used = 0;
  let out = "";
  const placed = [];
  const broken = labels.filter((mark) => mark.broken);
  // A broken promise always has a label if there is any room.
  for (const mark of [...broken.slice(0, 1), ...labels.filter((m) => m !== broken[0])]) {
    const left = x(mark.at);
    const text = mark.broken ? `✗ ${mark.text}` : mark.text;
    // A shorter label where a long one has no room.
    const place = (room) => {
      const label = text.length > room ? `${text.slice(0, room - 1)}…` : text;
      const width = label.length * (mark.broken ? 6.4 : 5.9) + 12;
      const flip = left + width > view.width - 4;
      const begin = flip ? left - width : left;
      const free = (_, index) => placed.every((p) => p.row !== index || p.end < begin || p.begin > begin + width);
      const row = begin < 0 ? -1 : rowsOfLabels.findIndex(free);
      return row < 0 ? null : { row, begin, end: begin + width, mark, left, label, flip };
    };
    const found = (mark.broken ? [110, 64, 40, 24] : [46, 28]).reduce((found, room) => found || place(room), null);
    placed.push(found || { row: -1, mark, left });
    if (found) used = Math.max(used, found.row + 1);
  }
  const height = 22 + used * LABEL_HEIGHT;
  for (const { row, mark, left, label, flip } of placed) {
    const about = tip(mark.broken ? "a promise is broken" : "fault", `at ${seconds(mark.at)} s`, mark.text);
    const kind = mark.broken ? "violation" : "fault";
    const top = row < 0 ? used * LABEL_HEIGHT : row * LABEL_HEIGHT + 3;
    out += `<line x1="${left.toFixed(1)}" x2="${left.toFixed(1)}" y1="${top}" y2="${height}" class="${kind}"/>`;
    if (row >= 0) {
      out += `<text x="${flip ? left - 4 : left + 4}" y="${row * LABEL_HEIGHT + 12}" text-anchor="${flip ? "end" : "start"}" class="${mark.broken ? "broken" : ""}"${about} data-go="${mark.at}">${safe(label)}</text>`;
    }
  }
  for (const t of at) {
    out += `<line x1="${x(t)}" x2="${x(t)}" y1="${height - 4}" y2="${height}" stroke="var(--soft)"/>`;
    out += `<text x="${x(t)}" y="${height - 7}" text-anchor="middle" class="axis" pointer-events="none">${seconds(t, digits)} s</text>`;
  }
  return { out, height };
}

function drawMini() {
  const width = plotWidth();
  const at = (t) => view.left + (t / S.end) * width;
  const step = Math.min(4, (MINI - 8) / Math.max(S.vips.length, 1));
  let out = rect(view.left, 2, width, MINI - 4, 'class="track"');
  S.vips.forEach((vip, index) => {
    const y = 4 + index * step;
    let painted = -1;
    for (const piece of vip.pieces) {
      const [left, right] = [at(piece.from), at(piece.to)];
      if (right - left < 0.4 && left < painted) continue;
      painted = Math.max(right, left + 0.8);
      out += rect(left, y, Math.max(right - left, 0.8), Math.max(step - 0.6, 0.8), `fill="${colour(piece.holders[0].node)}" fill-opacity=".75"`);
    }
    for (const span of vip.seen) if (span.by === null) out += rect(at(span.from), y, Math.max(at(span.to) - at(span.from), 1.5), Math.max(step - 0.6, 0.8), 'class="dark"');
    for (const span of vip.overlaps) out += rect(at(span.from), y - 0.5, Math.max(at(span.to) - at(span.from), 2), step + 1, 'class="dark"');
  });
  let last = -9;
  for (const mark of S.marks) {
    const left = at(mark.at);
    if (!mark.broken && left - last < 1.5) continue;
    last = left;
    out += `<line x1="${left}" x2="${left}" y1="0" y2="${MINI}" class="${mark.broken ? "violation" : "fault"}"/>`;
  }
  out += rect(at(view.from), 1, Math.max(at(view.to) - at(view.from), 2), MINI - 2, 'class="brush" pointer-events="none"');
  return `<text x="8" y="20" class="section">the whole run</text>${out}`;
}
