// The table of events: filtered by kind and text, and by what the chart shows.
const ROWS_MAX = 400;
const kinds = new Map();
for (const event of S.events) kinds.set(event.kind, (kinds.get(event.kind) || 0) + 1);
const NOISE = new Set(["announce", "answer", "link"]);
const hidden = new Set([...kinds.keys()].filter((kind) => NOISE.has(kind)));

function setUpTable() {
  $("kinds").innerHTML = [...kinds].sort((a, b) => a[0].localeCompare(b[0]))
    .map(([kind, count]) => `<button class="chip" data-kind="${safe(kind)}" aria-pressed="${!hidden.has(kind)}">${safe(kind)} ${count}</button>`).join("");
  $("kinds").addEventListener("click", (event) => {
    const chip = event.target.closest("[data-kind]");
    if (!chip) return;
    const kind = chip.dataset.kind;
    if (!hidden.delete(kind)) hidden.add(kind);
    chip.setAttribute("aria-pressed", String(!hidden.has(kind)));
    fillTable();
  });
  $("search").addEventListener("input", fillTable);
  $("shown").addEventListener("change", fillTable);
  const body = document.querySelector("#events tbody");
  body.addEventListener("click", (event) => {
    const row = event.target.closest("tr");
    if (row) goTo(Number(row.dataset.at));
  });
  body.addEventListener("mouseover", (event) => {
    const row = event.target.closest("tr");
    if (row) crossAt(Number(row.dataset.at));
  });
  body.addEventListener("mouseleave", () => crossAt(null));
}

function fillTable() {
  const words = $("search").value.toLowerCase().split(/\s+/).filter(Boolean);
  const only = $("shown").checked;
  let begin = only ? countBefore(S.events, view.from, (event) => event.at) : 0;
  let found = 0;
  let out = "";
  for (let i = begin; i < S.events.length; i++) {
    const event = S.events[i];
    if (only && event.at > view.to) break;
    if (hidden.has(event.kind)) continue;
    const node = event.node === undefined ? "" : nodeName(event.node);
    const vip = event.vip === undefined ? "" : S.vips[event.vip].name;
    if (words.length) {
      const text = `${event.kind} ${node} ${vip} ${event.text}`.toLowerCase();
      if (!words.every((word) => text.includes(word))) continue;
    }
    if (++found > ROWS_MAX) continue;
    const swatch = event.node === undefined ? "" : `<i class="swatch n${event.node % PALETTE}"></i>`;
    out += `<tr data-at="${event.at}" class="${event.kind === "broken" || event.kind === "fault" ? event.kind : ""}"><td>${seconds(event.at)} s</td><td>${safe(event.kind)}</td><td>${swatch}${safe(node)}</td><td>${safe(vip)}</td><td>${safe(event.text)}</td></tr>`;
  }
  document.querySelector("#events tbody").innerHTML = out;
  $("count").textContent = found > ROWS_MAX ? `the first ${ROWS_MAX} of ${found}; zoom in or filter` : `${found} events`;
}
