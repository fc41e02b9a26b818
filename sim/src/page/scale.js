// The window of time that is shown, and where it is on the screen.
const NARROWEST = 2000;
const RIGHT = 30;
const view = { from: 0, to: S.end, width: 1200, left: 130, pin: null };

const plotWidth = () => Math.max(100, view.width - view.left - RIGHT);
const x = (t) => view.left + ((t - view.from) / (view.to - view.from)) * plotWidth();
const timeAt = (px) => view.from + ((px - view.left) / plotWidth()) * (view.to - view.from);

function show(from, to) {
  let span = Math.min(Math.max(to - from, NARROWEST), S.end);
  let begin = Math.min(Math.max(from, 0), S.end - span);
  view.from = begin;
  view.to = begin + span;
  redraw();
}
function zoom(factor, around) {
  const at = around === undefined ? (view.from + view.to) / 2 : around;
  const span = Math.min(Math.max((view.to - view.from) * factor, NARROWEST), S.end);
  const share = (at - view.from) / (view.to - view.from);
  show(at - share * span, at - share * span + span);
}
const pan = (share) => {
  const by = (view.to - view.from) * share;
  show(view.from + by, view.to + by);
};
// Shows a moment with what is around it.
function goTo(t, around) {
  view.pin = t;
  const span = around || Math.min(view.to - view.from, 600000);
  show(t - span / 2, t + span / 2);
}

// Round times, about `room` pixels apart.
function ticks(room) {
  const least = ((view.to - view.from) / plotWidth()) * room;
  let step = 100;
  while (step < least) {
    const digit = String(step)[0];
    step *= digit === "1" ? 2 : digit === "2" ? 2.5 : 2;
  }
  const result = [];
  for (let t = Math.ceil(view.from / step) * step; t <= view.to; t += step) result.push(t);
  const digits = step >= 1e6 ? 0 : step >= 1e5 ? 1 : step >= 1e4 ? 2 : step >= 1000 ? 3 : 4;
  return { at: result, digits };
}

// The page's address names the window, so that a link leads to it.
const anchor = () => `#t=${seconds(view.from)}-${seconds(view.to)}`;
let written = "";
let writing = 0;
function writeAnchor() {
  clearTimeout(writing);
  writing = setTimeout(() => {
    const all = view.from <= 0 && view.to >= S.end;
    const now = all ? "" : anchor();
    if (now === written) return;
    written = now;
    try {
      history.replaceState(null, "", now || location.pathname + location.search);
    } catch {
      // A page in a sandbox may not; links still work.
    }
  }, 250);
}
function readAnchor() {
  const found = /^#t=([0-9.]+)(?:-([0-9.]+))?$/.exec(location.hash);
  if (!found) return false;
  const from = parseFloat(found[1]) * 1e6;
  if (found[2]) {
    show(from, parseFloat(found[2]) * 1e6);
  } else {
    goTo(from, 600000);
  }
  return true;
}
