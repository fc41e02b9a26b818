// Puts it together: draws once a frame at most, and listens.
let frame = 0;
let tableTimer = 0;
function redraw() {
  if (frame) return;
  frame = requestAnimationFrame(() => {
    frame = 0;
    draw();
    writeAnchor();
    clearTimeout(tableTimer);
    tableTimer = setTimeout(fillTable, 120);
  });
}

function size(svg, height) {
  svg.setAttribute("viewBox", `0 0 ${view.width} ${height}`);
  svg.setAttribute("height", height);
}

function draw() {
  tips = [];
  layout();
  const lanes = $("lanes");
  const clip = `<clipPath id="plot"><rect x="${view.left}" y="0" width="${plotWidth() + 1}" height="${lanesHeight}"/></clipPath>`;
  let drawn = drawGrid();
  for (const row of rows) {
    if (row.kind === "vip") drawn += drawVip(row);
    if (row.kind === "node") drawn += drawNode(row);
  }
  drawn += drawMessages() + drawMarks();
  size(lanes, lanesHeight);
  lanes.innerHTML = `${PATTERNS}${clip}<g clip-path="url(#plot)">${drawn}</g>${drawNames()}<line id="cross" class="cross" y1="0" y2="${lanesHeight}" visibility="hidden"/>`;
  const head = drawHead();
  size($("head"), head.height);
  $("head").innerHTML = `${head.out}<text id="cross-time" class="axis" y="${head.height - 7}" visibility="hidden"></text>`;
  size($("mini"), MINI);
  $("mini").innerHTML = drawMini();
  $("window").textContent = `${seconds(view.from)} – ${seconds(view.to)} s (${length(Math.round(view.to - view.from))})${messagesShown ? ` · ${messageNote}` : ""}`;
}

function crossAt(t) {
  const line = $("cross");
  if (!line) return;
  const visible = t !== null && t >= view.from && t <= view.to;
  line.setAttribute("visibility", visible ? "visible" : "hidden");
  if (visible) {
    line.setAttribute("x1", x(t));
    line.setAttribute("x2", x(t));
  }
}

function setUpTips() {
  const box = $("tip");
  const move = (event) => {
    const svg = event.currentTarget;
    const rectangle = svg.getBoundingClientRect();
    const px = ((event.clientX - rectangle.left) / rectangle.width) * view.width;
    if (svg.id !== "mini") crossAt(px >= view.left ? timeAt(px) : null);
    const found = event.target.closest("[data-t]");
    if (!found || event.buttons) {
      box.hidden = true;
      return;
    }
    const { title, lines } = tips[Number(found.dataset.t)];
    let at = "";
    if (px >= view.left && svg.id === "lanes") {
      const t = timeAt(px);
      at = `<div class="t">at ${seconds(t, view.to - view.from < 2e5 ? 4 : 3)} s${leaseThen(found, t)}</div>`;
    }
    box.innerHTML = `<b>${safe(title)}</b>${lines.map((line) => `<div>${safe(line)}</div>`).join("")}${at}`;
    box.hidden = false;
    const width = box.offsetWidth;
    const height = box.offsetHeight;
    box.style.left = `${Math.max(4, Math.min(event.clientX + 14, innerWidth - width - 8))}px`;
    box.style.top = `${event.clientY + 18 + height > innerHeight ? Math.max(4, event.clientY - height - 10) : event.clientY + 18}px`;
  };
  for (const id of ["lanes", "head"]) {
    $(id).addEventListener("pointermove", move);
    $(id).addEventListener("pointerleave", () => {
      box.hidden = true;
      crossAt(null);
    });
  }
}
// What had been told of a lease at the cursor.
function leaseThen(element, t) {
  if (element.dataset.lease === undefined) return "";
  let until = null;
  for (const span of S.nodes[Number(element.dataset.lease)].leases) {
    if (span.from > t || span.to < t) continue;
    for (const [told, end] of span.told) if (told <= t) until = end;
  }
  return until === null ? "" : `: told to run until ${seconds(until)} s`;
}

function setUpMoves() {
  const toTime = (svg, event) => {
    const rectangle = svg.getBoundingClientRect();
    return timeAt(((event.clientX - rectangle.left) / rectangle.width) * view.width);
  };
  const overNames = (svg, event) => event.clientX - svg.getBoundingClientRect().left < view.left;
  for (const id of ["lanes", "head"]) {
    $(id).addEventListener("wheel", (event) => {
      if (overNames($(id), event)) return;
      event.preventDefault();
      if (event.shiftKey || Math.abs(event.deltaX) > Math.abs(event.deltaY)) {
        pan(((event.deltaX || event.deltaY) / plotWidth()) * 1.2);
      } else {
        zoom(Math.exp(Math.max(-120, Math.min(120, event.deltaY)) * 0.0022), toTime($(id), event));
      }
    }, { passive: false });
  }
  const lanes = $("lanes");
  let dragged = null;
  lanes.addEventListener("pointerdown", (event) => {
    if (event.button || overNames(lanes, event)) return;
    dragged = { at: event.clientX, from: view.from, to: view.to };
    lanes.setPointerCapture(event.pointerId);
    lanes.classList.add("moving");
  });
  lanes.addEventListener("pointermove", (event) => {
    if (!dragged) return;
    const by = ((dragged.at - event.clientX) / plotWidth()) * (dragged.to - dragged.from);
    show(dragged.from + by, dragged.to + by);
  });
  const drop = () => {
    dragged = null;
    lanes.classList.remove("moving");
  };
  lanes.addEventListener("pointerup", drop);
  lanes.addEventListener("pointercancel", drop);
  lanes.addEventListener("dblclick", (event) => zoom(0.4, toTime(lanes, event)));

  // On the axis a drag chooses a part; on the overview too, and a click centres.
  const choose = (svg, time, click) => {
    let begin = null;
    const box = document.createElementNS(svg.namespaceURI, "rect");
    svg.addEventListener("pointerdown", (event) => {
      if (event.button || overNames(svg, event)) return;
      begin = event.clientX;
      svg.setPointerCapture(event.pointerId);
      box.setAttribute("class", "brush");
    });
    svg.addEventListener("pointermove", (event) => {
      if (begin === null) return;
      const rectangle = svg.getBoundingClientRect();
      box.setAttribute("x", Math.min(begin, event.clientX) - rectangle.left);
      box.setAttribute("width", Math.abs(event.clientX - begin));
      box.setAttribute("y", 0);
      box.setAttribute("height", rectangle.height);
      svg.appendChild(box);
    });
    svg.addEventListener("pointerup", (event) => {
      if (begin === null) return;
      const [one, other] = [time(begin), time(event.clientX)];
      const moved = Math.abs(event.clientX - begin) > 4;
      begin = null;
      box.remove();
      if (moved) show(Math.min(one, other), Math.max(one, other));
      else click(event, other);
    });
  };
  const head = $("head");
  choose(head, (px) => timeAt(px - head.getBoundingClientRect().left), (event, t) => {
    const label = event.target.closest && document.elementFromPoint(event.clientX, event.clientY)?.closest("[data-go]");
    goTo(label ? Number(label.dataset.go) : t, label ? 600000 : view.to - view.from);
  });
  const mini = $("mini");
  choose(mini, (px) => ((px - mini.getBoundingClientRect().left - view.left) / plotWidth()) * S.end, (_, t) => {
    const span = view.to - view.from;
    show(t - span / 2, t + span / 2);
  });
}

function toMark(way) {
  const here = view.pin === null ? (view.from + view.to) / 2 : view.pin;
  const marks = way > 0 ? S.marks.filter((mark) => mark.at > here + 1) : S.marks.filter((mark) => mark.at < here - 1).reverse();
  if (marks.length) goTo(marks[0].at, Math.min(view.to - view.from, 2e6));
}
const toBroken = () => goTo(S.account.at, 600000);
const everything = () => {
  view.pin = null;
  show(0, S.end);
};

function setUpButtons() {
  $("in").onclick = () => zoom(0.5);
  $("out").onclick = () => zoom(2);
  $("all").onclick = everything;
  $("prev").onclick = () => toMark(-1);
  $("next").onclick = () => toMark(1);
  const broken = $("broken");
  if (S.account.at === null) broken.hidden = true;
  else if (!S.account.broken) {
    broken.textContent = "what the account is about";
    broken.style.color = broken.style.borderColor = "var(--accent)";
  }
  broken.onclick = toBroken;
  $("link").onclick = () => {
    const url = location.href.replace(/#.*$/, "") + anchor();
    const said = (text) => {
      $("link").textContent = text;
      setTimeout(() => { $("link").textContent = "copy link"; }, 1500);
    };
    if (navigator.clipboard) navigator.clipboard.writeText(url).then(() => said("copied"), () => prompt("link", url));
    else prompt("link", url);
  };
  const toggles = $("toggles");
  if (!S.messages.seen) {
    toggles.innerHTML = '<button disabled title="this run was recorded without datagrams">messages: not recorded</button>';
    return;
  }
  const count = new Map();
  for (const message of S.messages.sent) count.set(S.messages.kinds[message[4]], (count.get(S.messages.kinds[message[4]]) || 0) + 1);
  const kindsSeen = S.messages.kinds.filter((kind) => count.get(kind));
  const fill = () => {
    toggles.innerHTML = `<button id="messages" aria-pressed="${messagesShown}" title="messages between machines (m)">messages</button>` +
      (messagesShown ? kindsSeen.map((kind) => `<button data-message="${safe(kind)}" aria-pressed="${wanted[kind]}">${safe(kind)}</button>`).join("") : "");
  };
  fill();
  toggles.addEventListener("click", (event) => {
    const button = event.target.closest("button");
    if (!button) return;
    if (button.id === "messages") messagesShown = !messagesShown;
    else wanted[button.dataset.message] = !wanted[button.dataset.message];
    fill();
    redraw();
  });
}

function setUpKeys() {
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /INPUT|TEXTAREA|SELECT/.test(event.target.tagName)) return;
    const actions = {
      "+": () => zoom(0.5), "=": () => zoom(0.5), "-": () => zoom(2), "_": () => zoom(2),
      ArrowLeft: () => pan(-0.2), ArrowRight: () => pan(0.2), Home: everything,
      v: () => S.account.at !== null && toBroken(), m: () => $("messages")?.click(),
      "[": () => toMark(-1), "]": () => toMark(1),
    };
    const action = actions[event.key];
    if (!action) return;
    event.preventDefault();
    action();
  });
}

function setUpLegend() {
  const box = (inner) => `<svg viewBox="0 0 26 14">${inner}</svg>`;
  const entry = (inner, text) => `<span>${box(inner)}${safe(text)}</span>`;
  const nodes = S.nodes.map((node, index) => `<span><i class="swatch n${index % PALETTE}" style="margin:0"></i>${safe(node.name)}</span>`).join("");
  const bar = (look, height = 14, y = 0) => `<rect x=".5" y="${y + 0.5}" width="25" height="${height - 1}" ${look}/>`;
  $("legend").innerHTML = nodes +
    entry(bar('class="overlap forbidden"'), "two answer, and nothing allows it") +
    entry(bar('class="overlap allowed"'), "two answer, allowed for a while") +
    entry(bar('class="track"'), "nobody answers") +
    (S.clients.length ? entry(bar('class="dark"', 7, 4), "a client gets no answer") : "") +
    entry(bar('fill="var(--n0)" fill-opacity=".16" stroke="var(--n0)" stroke-dasharray="2 2"', 10, 2), "address there, does not answer") +
    entry(bar('fill="var(--n0)" fill-opacity=".26"') + '<rect width="26" height="3.5" fill="var(--n0)"/>', "running; full colour on top: may own VIPs") +
    entry(bar('class="paused"'), "paused") + entry(bar('class="dead"'), "dead") + entry(bar('class="frozen"'), "stopped by its host") + entry(bar('class="off"'), "off") +
    entry(bar('class="view"'), "view, dashed: not primary") +
    entry('<rect y="5" width="22" height="4" fill="var(--n0)"/><path d="M22 2v10" class="lease-end"/>', "lease, with its end") +
    entry('<rect y="5" width="26" height="4" class="shut"/>', "gate shut") +
    entry('<rect y="5" width="13" height="3" class="guard-watching"/><rect x="13" y="5" width="13" height="3" class="guard-dead"/>', "guardian watches; paused is amber, dead red");
}

function fit() {
  const width = $("lanes").parentElement.clientWidth;
  if (!width || Math.abs(width - view.width) < 1) return;
  view.width = width;
  redraw();
}

setUpLegend();
setUpButtons();
setUpTips();
setUpMoves();
setUpKeys();
setUpTable();
view.width = $("lanes").parentElement.clientWidth || view.width;
if (!readAnchor()) show(0, S.end);
fillTable();
addEventListener("hashchange", () => {
  if (location.hash !== written && readAnchor()) $("chart").scrollIntoView({ block: "start", behavior: "smooth" });
});
addEventListener("resize", fit);
addEventListener("beforeprint", () => {
  document.querySelector("details").open = true;
  view.width = 1000;
  draw();
});
addEventListener("afterprint", () => {
  view.width = 0;
  fit();
});
