"use strict";
// Draws a story: lanes side by side, time downwards. All text of the run goes through
// textContent; the causal past of an event is a walk over its parents.
const story = JSON.parse(document.getElementById("data").textContent);
const rows = story.rows;
const SVG = "http://www.w3.org/2000/svg";
const AXIS = 78, WORLD = 150, TOP = 26, HEAD = 30;
const GROUPS = [
  ["clients", ["ask", "question", "reply", "answer"]],
  ["messages", ["send", "arrive", "unheard"]],
  ["versions", ["put"]],
  ["disks", ["durable"]],
  ["faults", ["start", "stop", "fault"]],
];
const LABELLED = ["ask", "answer", "put", "start", "stop", "fault"];
// The key of the story comes first; others are shown on demand.
const hidden = { lanes: new Set(), groups: new Set(), key: story.keys.length > 1 ? 0 : -1 };
let chosen = -1;
let shown = [];

const $ = (id) => document.getElementById(id);
function node(parent, name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}
function element(parent, name, text, attributes = {}) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  parent.appendChild(made);
  return made;
}
const ms = (us) => (us / 1000).toFixed(3);
const span = (us) => us < 1e6 ? `${Math.round(us / 1000)} ms` : `${(us / 1e6).toFixed(1)} s`;

// Widths of text, as this browser draws it.
const pen = document.createElement("canvas").getContext("2d");
const FONT = 'system-ui, -apple-system, "Segoe UI", Roboto, "Liberation Sans", sans-serif';
function width(text, font = "11.5px") {
  pen.font = `${font} ${FONT}`;
  return pen.measureText(text).width * 1.06 + 2;
}
function clip(text, room, font) {
  if (width(text, font) <= room) return text;
  let end = text.length;
  while (end > 1 && width(text.slice(0, end) + "\u2026", font) > room) end -= 1;
  return text.slice(0, end).trimEnd() + "\u2026";
}
function wrap(text, room, font) {
  const lines = [];
  let line = "";
  for (const word of text.split(" ")) {
    const longer = line ? `${line} ${word}` : word;
    if (line && width(longer, font) > room) { lines.push(line); line = word; } else line = longer;
  }
  lines.push(line);
  return lines.map((each) => clip(each, room, font));
}

// Everything that may have brought a row about.
function pastOf(id) {
  const past = new Set(), open = [id];
  while (open.length) {
    const next = open.pop();
    if (past.has(next)) continue;
    past.add(next);
    open.push(...rows[next].parents);
  }
  return past;
}

function groupOf(row) {
  const found = GROUPS.find(([, kinds]) => kinds.includes(row.kind));
  return found ? found[0] : "verdict";
}
function isShown(row) {
  if (row.kind === "violation") return true;
  if (hidden.lanes.has(row.lane) || hidden.groups.has(groupOf(row))) return false;
  return hidden.key < 0 || row.keys.length === 0 || row.keys.includes(hidden.key);
}

// Boxes of labels that stand already; a label that fits in none of its slots is not drawn.
class Boxes {
  constructor() { this.rowsOfBoxes = new Map(); }
  cells(box) {
    const cells = [];
    for (let cell = Math.floor(box.y / 40); cell <= Math.floor((box.y + box.h) / 40); cell += 1)
      cells.push(cell);
    return cells;
  }
  isFree(box) {
    return this.cells(box).every((cell) => (this.rowsOfBoxes.get(cell) || []).every((other) =>
      box.x + box.w <= other.x || other.x + other.w <= box.x
      || box.y + box.h <= other.y || other.y + other.h <= box.y));
  }
  take(box) {
    for (const cell of this.cells(box)) {
      if (!this.rowsOfBoxes.has(cell)) this.rowsOfBoxes.set(cell, []);
      this.rowsOfBoxes.get(cell).push(box);
    }
  }
}

// Where lanes and rows stand. Time is squeezed where nothing happens.
function layout() {
  shown = rows.filter(isShown);
  const busy = new Set(shown.map((row) => row.lane));
  const lanes = story.lanes.map((lane, index) => ({ ...lane, index })).filter((lane) =>
    lane.kind === "world" || lane.kind === "node" && !hidden.lanes.has(lane.index)
    || busy.has(lane.index));
  const asking = lanes.filter((lane) => lane.kind !== "node").length;
  const weight = (lane) => lane.kind === "node" ? 1 : asking > 5 ? 0.45 : 0.85;
  const weights = lanes.slice(1).reduce((sum, lane) => sum + weight(lane), 0);
  const space = Math.max(640, $("diagram").clientWidth) - AXIS - WORLD - 24;
  const pitch = Math.max(104, Math.min(190, space / Math.max(1, weights)));
  const x = new Map(), room = new Map();
  let right = AXIS + WORLD + 14;
  for (const lane of lanes) {
    const isWorld = lane.kind === "world";
    x.set(lane.index, isWorld ? AXIS + 6 : right);
    room.set(lane.index, isWorld ? WORLD : pitch * weight(lane));
    if (!isWorld) right += pitch * weight(lane);
  }
  const y = new Map(), breaks = [];
  const lastOfLane = new Map(), lastLabel = new Map();
  let at = TOP, before = null;
  for (const row of shown) {
    const passed = before ? row.at_us - before.at_us : 0;
    if (passed >= 250000) { at += 46; breaks.push([at - 18, passed]); }
    else if (passed > 0) at += passed < 200 ? 3 : Math.min(6 + 5 * Math.log2(passed / 200), 40);
    let least = at;
    if (lastOfLane.has(row.lane)) least = Math.max(least, lastOfLane.get(row.lane) + 8);
    if (LABELLED.includes(row.kind) && lastLabel.has(row.lane))
      least = Math.max(least, lastLabel.get(row.lane) + 17);
    if (row.from !== null && y.has(row.from)) least = Math.max(least, y.get(row.from) + 13);
    if (row.kind === "violation") least += 20;
    at = least;
    y.set(row.id, at);
    lastOfLane.set(row.lane, at);
    if (LABELLED.includes(row.kind)) lastLabel.set(row.lane, at);
    before = row;
  }
  return { lanes, room, x, y, breaks, right, bottom: at + 60 };
}
function yAt(plan, us) {
  let y = TOP - 8;
  for (const row of shown) {
    if (row.at_us > us) return y;
    y = plan.y.get(row.id);
  }
  return y;
}

function drawDefs(svg) {
  const defs = node(svg, "defs", {});
  const hatch = node(defs, "pattern", { id: "hatch", width: 7, height: 7,
    patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" });
  node(hatch, "rect", { width: 2.2, height: 7, fill: "var(--dead)", opacity: 0.65 });
  const dots = node(defs, "pattern", { id: "dots", width: 6, height: 6,
    patternUnits: "userSpaceOnUse" });
  node(dots, "circle", { cx: 3, cy: 3, r: 1.2, fill: "var(--unknown)" });
  for (const tone of ["message", "read", "ack", "lane"]) {
    const head = node(defs, "marker", { id: `head-${tone}`, viewBox: "0 0 8 8", refX: 7, refY: 4,
      markerWidth: 7, markerHeight: 7, orient: "auto-start-reverse" });
    node(head, "path", { d: "M0 0.8L8 4L0 7.2z", fill: `var(--${tone})` });
  }
}
function toneOf(title) {
  if (["read", "object", "digest"].includes(title)) return "read";
  if (["ack", "outcome", "refusal", "held", "applied"].includes(title)) return "ack";
  return "message";
}

function drawGround(svg, plan) {
  const nodes = plan.lanes.filter((lane) => lane.kind === "node");
  for (const cut of story.cuts) {
    if (!nodes.length || hidden.groups.has("faults")) break;
    const top = yAt(plan, cut.from_us), bottom = Math.max(top + 10, yAt(plan, cut.to_us));
    const left = plan.x.get(nodes[0].index) - 12;
    node(svg, "rect", { class: "band", x: left, y: top, width: plan.right - left,
      height: bottom - top });
    for (let place = 1; place < nodes.length; place += 1) {
      const [one, other] = [nodes[place - 1].index, nodes[place].index];
      const isCut = cut.pairs.some(([from, to]) => Math.min(from, to) === one
        && Math.max(from, to) === other);
      const middle = (plan.x.get(one) + plan.x.get(other)) / 2;
      if (isCut) node(svg, "line", { class: "cutline", x1: middle, x2: middle, y1: top,
        y2: bottom });
    }
  }
  for (const lane of plan.lanes) {
    if (lane.kind === "world") continue;
    const x = plan.x.get(lane.index);
    node(svg, "line", { class: `lane ${lane.kind === "node" ? "node" : "client"}`, x1: x, x2: x,
      y1: 4, y2: plan.bottom - 48 });
  }
  for (const gap of story.gaps) {
    if (!plan.x.has(gap.lane)) continue;
    const x = plan.x.get(gap.lane), top = yAt(plan, gap.from_us);
    const height = Math.max(12, yAt(plan, gap.to_us) - top);
    node(svg, "rect", { x: x - 7, y: top, width: 14, height, fill: "var(--paper)" });
    node(svg, "rect", { x: x - 7, y: top, width: 14, height, rx: 3,
      fill: `url(#${gap.paused ? "dots" : "hatch"})` });
  }
  for (const [y, passed] of plan.breaks) {
    node(svg, "path", { d: `M${AXIS} ${y}H${plan.right}`, stroke: "var(--line)",
      "stroke-dasharray": "2 5" });
    node(svg, "text", { class: "label later", x: 6, y: y + 4 }, `${span(passed)} later`);
  }
}

function drawTimes(svg, plan, boxes) {
  let last = -100;
  for (const [y] of plan.breaks) boxes.take({ x: 0, y: y - 9, w: AXIS - 2, h: 16 });
  for (const row of shown) {
    const y = plan.y.get(row.id);
    const box = { x: 0, y: y - 8, w: AXIS - 4, h: 15 };
    if (y - last < 17 || !boxes.isFree(box)) continue;
    last = y;
    boxes.take(box);
    node(svg, "text", { class: "label time", x: AXIS - 10, y: y + 4, "text-anchor": "end" },
      ms(row.at_us));
  }
}

function drawBars(svg, plan) {
  for (const row of shown) {
    if (row.kind !== "ask") continue;
    const x = plan.x.get(row.lane), top = plan.y.get(row.id);
    const until = row.until === null ? undefined : plan.y.get(row.until);
    const bottom = until === undefined ? top + 14 : until;
    node(svg, "rect", { class: `bar ${row.tone}`, "data-row": row.id, x: x - 4, y: top - 4,
      width: 8, height: bottom - top + 8, rx: 4 });
  }
}

function drawArrows(svg, plan) {
  const ways = [], arrived = new Set();
  for (const row of shown) {
    const x = plan.x.get(row.lane), y = plan.y.get(row.id);
    if (row.from !== null && plan.y.has(row.from)) {
      const sent = rows[row.from];
      const tone = ["question", "answer"].includes(row.kind) ? "lane" : toneOf(row.title);
      const again = arrived.has(row.from);
      arrived.add(row.from);
      const from = [plan.x.get(sent.lane), plan.y.get(row.from)];
      const lost = row.kind === "unheard";
      const to = [x + Math.sign(from[0] - x) * 6, y];
      const kind = tone === "lane" ? "client" : tone;
      node(svg, "path", { class: `arrow ${kind}${again ? " doubled" : ""}${lost ? " lost" : ""}`,
        "data-row": row.id, d: `M${from}L${to}`, "marker-end": lost ? "" : `url(#head-${tone})` });
      if (tone !== "lane" && !again) ways.push([row, from, to]);
    } else if (row.kind === "send" && row.lost && plan.x.has(row.to)) {
      // Half a lane before the one that it was for, where the line of a cut is drawn.
      const target = plan.x.get(row.to), way = Math.sign(target - x);
      const to = [target - way * plan.room.get(way > 0 ? row.lane : row.to) / 2, y + 11];
      node(svg, "path", { class: "arrow lost", "data-row": row.id, d: `M${[x, y]}L${to}` });
      node(svg, "path", { class: "cross", "data-row": row.id,
        d: `M${to[0] - 4} ${to[1] - 4}l8 8m0 -8l-8 8` });
      ways.push([row, [x, y], to]);
    }
  }
  return ways;
}

const SHAPES = {
  start: "M-4.5 4L0 -5L4.5 4z",
  stop: "M-5 -5L5 5M5 -5L-5 5",
  fault: "M1.5 -8L-5 1.5H-0.5L-2 8L5 -2H0.5z",
  violation: "M0 -8L7.5 6H-7.5z",
  durable: "M-3 -3H3V3H-3z",
};
function drawEvent(svg, plan, row, boxes) {
  const x = plan.x.get(row.lane), y = plan.y.get(row.id);
  const lane = story.lanes[row.lane].name;
  const event = node(svg, "g", { class: `event ${row.kind} ${row.tone}`, "data-row": row.id,
    role: "button", tabindex: -1,
    "aria-label": `${ms(row.at_us)} ms, ${lane}, ${row.kind}: ${row.title}` });
  node(event, "circle", { class: "hit", cx: x, cy: y, r: 9 });
  if (SHAPES[row.kind]) {
    node(event, "path", { class: "dot", d: SHAPES[row.kind], transform: `translate(${x} ${y})` });
  } else {
    const r = row.kind === "put" ? 5.5 : ["ask", "answer"].includes(row.kind) ? 4 : 2.6;
    node(event, "circle", { class: "dot", cx: x, cy: y, r });
  }
  if (LABELLED.includes(row.kind)) {
    // Above the arrow that leaves a question, below the one that brings an answer.
    const aside = { ask: -7, answer: 9 }[row.kind] || 0;
    const room = plan.room.get(row.lane) - 22;
    const font = row.kind === "put" ? "700 11.5px" : "11.5px";
    for (const most of [Math.max(room, 140), room]) {
      const title = clip(row.title, most, font);
      const box = { x: x + 10, y: y - 8 + aside, w: width(title, font), h: 16 };
      if (!boxes.isFree(box)) continue;
      boxes.take(box);
      node(event, "text", { class: "label", x: x + 11, y: y + 4 + aside }, title);
      break;
    }
  } else if (row.kind === "violation") {
    const lines = wrap(row.title, plan.right - AXIS - 30, "650 12.5px");
    lines.forEach((line, index) => {
      const top = y + 8 + index * 18;
      boxes.take({ x: x + 14, y: top, w: width(line, "650 12.5px"), h: 18 });
      node(event, "text", { class: "label", x: x + 14, y: top + 13 }, line);
    });
  }
  event.addEventListener("click", (click) => { click.stopPropagation(); choose(row.id); });
  return event;
}

// What messages say, on their arrows, where there is room.
function drawWords(svg, ways, boxes) {
  for (const [row, from, to] of ways) {
    const w = width(row.title, "10.5px");
    for (const part of [0.5, 0.36, 0.64, 0.25, 0.75]) {
      const x = from[0] + (to[0] - from[0]) * part, y = from[1] + (to[1] - from[1]) * part;
      const box = { x: x - w / 2 - 1, y: y - 14, w: w + 2, h: 14 };
      if (!boxes.isFree(box)) continue;
      boxes.take(box);
      node(svg, "text", { class: "label small words", "data-row": row.id, x, y: y - 3.5,
        "text-anchor": "middle" }, row.title);
      break;
    }
  }
}

function drawHeads(plan) {
  const heads = $("heads");
  heads.replaceChildren();
  heads.setAttribute("width", plan.right + 12);
  heads.setAttribute("height", HEAD);
  node(heads, "text", { class: "label time", x: AXIS - 10, y: 20, "text-anchor": "end" }, "ms");
  for (const lane of plan.lanes) {
    const world = lane.kind === "world";
    const name = clip(lane.name, plan.room.get(lane.index) - 12, "650 13px");
    node(heads, "text", { class: "label name", x: plan.x.get(lane.index) + (world ? -4 : 0), y: 20,
      "text-anchor": world ? "start" : "middle" }, name);
  }
}

function draw() {
  const plan = layout();
  const svg = $("picture");
  svg.replaceChildren();
  svg.setAttribute("width", plan.right + 12);
  svg.setAttribute("height", plan.bottom);
  drawDefs(svg);
  drawHeads(plan);
  drawGround(svg, plan);
  const boxes = new Boxes();
  const verdict = shown.find((row) => row.kind === "violation");
  if (verdict) node(svg, "line", { class: "verdictline", x1: AXIS, x2: plan.right,
    y1: plan.y.get(verdict.id), y2: plan.y.get(verdict.id) });
  const ways = drawArrows(svg, plan);
  drawBars(svg, plan);
  drawTimes(svg, plan, boxes);
  // Dots are in the way of words, and events speak before messages do.
  for (const row of shown) {
    const x = plan.x.get(row.lane), y = plan.y.get(row.id);
    if (row.lane !== 0) boxes.take({ x: x - 6, y: y - 6, w: 12, h: 12 });
  }
  const order = ["violation", "fault", "stop", "start", "put", "ask", "answer"];
  const rank = (row) => { const at = order.indexOf(row.kind); return at < 0 ? 9 : at; };
  [...shown].sort((a, b) => rank(a) - rank(b) || a.id - b.id)
    .forEach((row) => drawEvent(svg, plan, row, boxes));
  drawWords(svg, ways, boxes);
  mark();
}

// Lets what a row came of stand, and the rest fade.
function mark() {
  const svg = $("picture");
  const past = chosen < 0 ? new Set() : pastOf(chosen);
  svg.classList.toggle("chosen-any", chosen >= 0);
  for (const each of svg.querySelectorAll("[data-row]")) {
    const id = Number(each.getAttribute("data-row"));
    each.classList.toggle("past", past.has(id));
    each.classList.toggle("chosen", each.classList.contains("event") && id === chosen);
  }
  for (const each of $("versions").querySelectorAll("[data-row]"))
    each.classList.toggle("chosen", Number(each.getAttribute("data-row")) === chosen);
  tell(past);
}
function tell(past) {
  const panel = $("event");
  panel.replaceChildren();
  if (chosen < 0) {
    element(panel, "p", "Choose an event: what may have brought it about stays, the rest fades.",
      { class: "soft" });
    return;
  }
  const row = rows[chosen];
  element(panel, "div", row.title, { class: "title" });
  element(panel, "div", `${row.kind} at ${story.lanes[row.lane].name}, ${ms(row.at_us)} ms`,
    { class: "soft" });
  const notes = element(panel, "ul");
  for (const note of row.notes) element(notes, "li", note);
  for (const key of row.keys) element(notes, "li", `key ${story.keys[key]}`);
  element(panel, "div", `${past.size} of ${rows.length} events may have brought it about.`,
    { class: "soft" });
  for (const parent of row.parents) {
    const before = rows[parent];
    const text = clip(`${story.lanes[before.lane].name}: ${before.title}`, 230);
    element(panel, "button", text, { type: "button" })
      .addEventListener("click", () => choose(parent));
  }
}
function choose(id) {
  chosen = id;
  mark();
  const event = id < 0 ? null : $("picture").querySelector(`.event[data-row="${id}"]`);
  if (event) {
    event.scrollIntoView({ block: "nearest", inline: "nearest" });
    event.focus({ preventScroll: true });
  }
}
function step(by) {
  const at = shown.findIndex((row) => row.id === chosen);
  const next = at < 0 ? (by > 0 ? 0 : shown.length - 1) : at + by;
  if (shown[next]) choose(shown[next].id);
}
document.addEventListener("keydown", (press) => {
  if (press.ctrlKey || press.metaKey || press.altKey) return;
  if (["SELECT", "INPUT", "BUTTON", "SUMMARY"].includes(press.target.tagName)
    && press.key !== "Escape") return;
  if (press.key === "ArrowDown") step(1);
  else if (press.key === "ArrowUp") step(-1);
  else if (press.key === "ArrowLeft" && chosen >= 0) {
    const row = rows[chosen];
    const cause = row.from !== null ? row.from : row.parents[row.parents.length - 1];
    if (cause !== undefined) choose(cause);
  } else if (press.key === "v" && story.violation) choose(story.violation.row);
  else if (press.key === "Escape") choose(-1);
  else return;
  press.preventDefault();
});

// Versions: each below those that it took the place of.
function drawVersions() {
  const svg = $("versions"), depth = new Map(), layers = [];
  const byName = new Map(story.versions.map((version) => [version.name, version]));
  for (const version of story.versions) {
    const above = version.replaces.filter((name) => depth.has(name)).map((name) => depth.get(name));
    const layer = above.length ? Math.max(...above) + 1 : 0;
    depth.set(version.name, layer);
    (layers[layer] = layers[layer] || []).push(version);
  }
  const WIDE = 128, HIGH = 40, DOWN = 62, ACROSS = 138;
  const most = Math.max(1, ...layers.map((layer) => layer.length));
  const place = new Map();
  layers.forEach((layer, down) => layer.forEach((version, across) => {
    const left = (most - layer.length) * ACROSS / 2 + across * ACROSS + 2;
    place.set(version.name, [left, down * DOWN + 4]);
  }));
  svg.setAttribute("width", most * ACROSS);
  svg.setAttribute("height", Math.max(HIGH + 8, layers.length * DOWN));
  for (const version of story.versions) for (const name of version.replaces) {
    if (!byName.has(name)) continue;
    const [fromX, fromY] = place.get(name), [toX, toY] = place.get(version.name);
    const [x1, y1, x2, y2] = [fromX + WIDE / 2, fromY + HIGH, toX + WIDE / 2, toY];
    const bend = `${x1} ${y1 + 14} ${x2} ${y2 - 14} ${x2} ${y2}`;
    node(svg, "path", { class: "edge", d: `M${x1} ${y1}C${bend}` });
  }
  for (const version of story.versions) {
    const [x, y] = place.get(version.name);
    const value = version.value === null ? "deleted" : version.value;
    const box = node(svg, "g", { class: `version ${version.state}`, "data-row": version.row,
      role: "button", tabindex: 0, "aria-label": `${version.name}, ${value}, ${version.state}` });
    node(box, "rect", { x, y, width: WIDE, height: HIGH });
    node(box, "text", { class: "name", x: x + 9, y: y + 16 }, clip(version.name, 60, "650 13px"));
    node(box, "text", { class: "small", x: x + WIDE - 8, y: y + 16, "text-anchor": "end" },
      { wronged: "in question", unseen: "" }[version.state] ?? version.state);
    node(box, "text", { x: x + 9, y: y + 32 }, clip(value, WIDE - 18));
    box.addEventListener("click", () => choose(version.row));
    box.addEventListener("keydown", (press) => {
      if (press.key !== "Enter" && press.key !== " ") return;
      choose(version.row);
      press.preventDefault();
    });
  }
}

function drawLegend() {
  const items = [
    ["event put born", "circle", { r: 5.5 }, "a version is born"],
    ["event put", "circle", { r: 5 }, "a replica learns of it"],
    ["event put siblings", "circle", { r: 5.5 }, "versions side by side"],
    ["event durable", "path", { d: SHAPES.durable }, "durable"],
    ["event stop", "path", { d: SHAPES.stop }, "the process is gone"],
    ["event start", "path", { d: SHAPES.start }, "a process starts"],
    ["event fault", "path", { d: SHAPES.fault }, "disk, clock, pause"],
    ["event violation", "path", { d: SHAPES.violation }, "a promise is broken"],
  ];
  for (const [kind, shape, attributes, text] of items) {
    const item = element($("legend"), "li");
    const svg = node(item, "svg", { width: 18, height: 18, viewBox: "-9 -9 18 18",
      "aria-hidden": "true" });
    node(node(svg, "g", { class: kind }), shape, { class: "dot", ...attributes });
    element(item, "span", text);
  }
  const band = element($("legend"), "li");
  const sample = node(band, "svg", { width: 18, height: 18, viewBox: "-9 -9 18 18",
    "aria-hidden": "true" });
  node(sample, "rect", { class: "band", x: -9, y: -9, width: 18, height: 18 });
  node(sample, "line", { class: "cutline", x1: 0, x2: 0, y1: -9, y2: 9 });
  element(band, "span", "the network is cut");
  const bars = [["ok", "asked and done"], ["refused", "refused"], ["unknown", "outcome unknown"]];
  for (const [tone, text] of bars) {
    const item = element($("legend"), "li");
    const svg = node(item, "svg", { width: 18, height: 18, viewBox: "-9 -9 18 18",
      "aria-hidden": "true" });
    node(svg, "rect", { class: `bar ${tone}`, x: -4, y: -9, width: 8, height: 18, rx: 4 });
    element(item, "span", text);
  }
}

function drawFilters() {
  const nav = $("filters");
  const toggle = (parent, text, set, value) => {
    const button = element(parent, "button", text, { type: "button", "aria-pressed": "true" });
    button.addEventListener("click", () => {
      if (!set.delete(value)) set.add(value);
      button.setAttribute("aria-pressed", String(!set.has(value)));
      draw();
    });
  };
  if (story.keys.length > 1) {
    const keys = element(nav, "label", "key ", { class: "group" });
    const select = element(keys, "select");
    element(select, "option", "all", { value: -1 });
    story.keys.forEach((key, index) => element(select, "option", key, { value: index }));
    select.value = hidden.key;
    select.addEventListener("change", () => { hidden.key = Number(select.value); draw(); });
  }
  const lanes = element(nav, "div", "lanes", { class: "group" });
  story.lanes.forEach((lane, index) => {
    if (lane.kind !== "world") toggle(lanes, lane.name, hidden.lanes, index);
  });
  const groups = element(nav, "div", "kinds", { class: "group" });
  for (const [name] of GROUPS) toggle(groups, name, hidden.groups, name);
  const jump = element(nav, "div", undefined, { class: "group" });
  if (story.violation) element(jump, "button", "Show the violation", { type: "button" })
    .addEventListener("click", () => choose(story.violation.row));
  element(jump, "button", "All events", { type: "button" })
    .addEventListener("click", () => choose(-1));
}

function drawTable() {
  const details = $("table");
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const table = element(details, "table");
    const head = element(element(table, "thead"), "tr");
    for (const name of ["ms", "lane", "kind", "what", "more", "after"])
      element(head, "th", name, { scope: "col" });
    const body = element(table, "tbody");
    for (const row of rows) {
      const line = element(body, "tr");
      for (const text of [ms(row.at_us), story.lanes[row.lane].name, row.kind, row.title,
        row.notes.join("; "), row.parents.join(", ")]) element(line, "td", text);
    }
  });
}

$("badge").textContent = story.held ? "held" : "broken promise";
$("badge").classList.toggle("broken", !story.held);
$("verdict").textContent = story.verdict;
$("name").textContent = `${story.name}, seed ${story.seed}.`;
$("about").textContent = `${rows.length} events of key ${story.key}`
  + (story.keys.length > 1 ? ` and ${story.keys.length - 1} others` : "")
  + (story.left_out ? `; ${story.left_out} earlier ones are left out.` : ".");
$("replay").textContent = story.replay;
$("key").textContent = story.key;
$("copy").addEventListener("click", () => {
  getSelection().selectAllChildren($("replay"));
  if (navigator.clipboard) navigator.clipboard.writeText(story.replay).catch(() => {});
});
for (const [name, value] of [...story.options, ...story.tally, ["trace", story.hash]]) {
  const pair = element($("options"), "div");
  element(pair, "dt", name);
  element(pair, "dd", String(value));
}
drawFilters();
drawLegend();
drawVersions();
drawTable();
draw();
let resizing = 0;
addEventListener("resize", () => { clearTimeout(resizing); resizing = setTimeout(draw, 150); });
