"use strict";
// Draws the study's slices with what was measured on them. Lengths are millimetres in the picture's frame (scene.py);
// nothing is measured here, and nothing is fetched.
const $ = (id) => document.getElementById(id);
const scene = JSON.parse($("scene").textContent);
// Without a script the page shows why there are no pictures; that text is shown again after an error.
if (scene.voxels) {
  $("nopictures").hidden = true;
  start().catch((error) => {
    $("nopictures").hidden = false;
    throw error;
  });
}

async function start() {
const [depth, height, width] = scene.shape, [dx, dy, dz] = scene.spacing;
const [voxels, labels] = await Promise.all(["voxels", "labels"].map(unpack));
if (voxels.length !== depth * height * width || labels.length !== voxels.length) throw new Error("damaged page");

// base64(gzip(low bytes, then high bytes)) -> uint16
async function unpack(id) {
  const packed = Uint8Array.from(atob($(id).textContent), (letter) => letter.charCodeAt(0));
  const stream = new Blob([packed]).stream().pipeThrough(new DecompressionStream("gzip"));
  const halves = new Uint8Array(await new Response(stream).arrayBuffer());
  const values = new Uint16Array(halves.length / 2);
  for (let i = 0; i < values.length; i++) values[i] = halves[i] | (halves[i + values.length] << 8);
  return values;
}

const nodes = new Map(scene.nodes.map((node) => [node.id, node]));
const first = scene.nodes[0];
const EDGES = ["short", "middle", "long"], DRAWN_TILT = 45;
const state = {
  slice: first ? first.slice : depth >> 1, node: first, overlay: true, measure: scene.measure, grey: [...scene.voxels.window],
};
const whole = view($("whole")), close = view($("close")), views = first ? [whole, close] : [whole];
// One slice, a pixel for each voxel, from which the views draw their parts; their canvases are finer, for a smooth picture.
const sliceContext = Object.assign(document.createElement("canvas"), {width, height}).getContext("2d");
const image = sliceContext.createImageData(width, height);
const CANVAS_WIDTH = 800;

function view(figure) {
  const [frame, canvas, svg, bar] = [".frame", "canvas", "svg", ".bar"].map((name) => figure.querySelector(name));
  return {frame, canvas, svg, bar, port: null};
}

// Fills a frame with a part of the slice, [u, v, width, height] in mm.
function setPort(view, [u, v, w, h]) {
  view.port = [u, v, w, h];
  view.frame.style.aspectRatio = w + " / " + h;
  view.frame.style.setProperty("--aspect", w / h);
  Object.assign(view.canvas, {width: CANVAS_WIDTH, height: Math.round(CANVAS_WIDTH * h / w)});
  view.svg.setAttribute("viewBox", view.port.join(" "));
  const bar = [100, 50, 20, 10, 5, 2].find((length) => length <= 0.3 * w) || 1;
  view.bar.style.width = 100 * bar / w + "%";
  view.bar.textContent = bar + " mm";
}

function element(name, attributes, text = "") {
  const node = document.createElementNS(whole.svg.namespaceURI, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  node.textContent = text;
  return node;
}

// --- drawing --------------------------------------------------------------------------------------------------------

let drawPending = false;
function draw() {
  if (drawPending) return;
  drawPending = true;
  requestAnimationFrame(() => {
    drawPending = false;
    const outlines = outlinesOf(state.slice);
    drawSlice();
    for (const view of views) {
      const {canvas, port: [u, v, w, h]} = view, context = canvas.getContext("2d");
      context.clearRect(0, 0, canvas.width, canvas.height);
      context.drawImage(sliceContext.canvas, u / dx, v / dy, w / dx, h / dy, 0, 0, canvas.width, canvas.height);
      const marks = state.overlay ? [...marksOf(view, outlines), ...measureOf(view, outlines)] : [];
      view.svg.replaceChildren(...marks);
    }
    updateText(outlines);
  });
}

function drawSlice() {
  const {slope, inter} = scene.voxels, [low, high] = state.grey;
  const start = state.slice * height * width, bytes = image.data, scale = 255 * slope / (high - low);
  const shift = 255 * (inter - low) / (high - low);
  for (let i = 0; i < height * width; i++) {
    bytes[4 * i] = bytes[4 * i + 1] = bytes[4 * i + 2] = voxels[start + i] * scale + shift; // clamped to 0 ... 255
    bytes[4 * i + 3] = 255;
  }
  sliceContext.putImageData(image, 0, 0);
}

// For each node in a slice the edges of its voxels towards other voxels: the outline that was measured.
function outlinesOf(slice) {
  const start = slice * height * width, outlines = new Map();
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : labels[start + y * width + x]);
  for (let y = 0; y < height; y++)
    for (let x = 0; x < width; x++) {
      const id = labels[start + y * width + x];
      if (!id) continue;
      if (!outlines.has(id)) outlines.set(id, {path: "", right: x, top: y});
      const outline = outlines.get(id);
      outline.right = Math.max(outline.right, x + 1);
      if (at(x, y - 1) !== id) outline.path += `M${x} ${y}h1`;
      if (at(x, y + 1) !== id) outline.path += `M${x} ${y + 1}h1`;
      if (at(x - 1, y) !== id) outline.path += `M${x} ${y}v1`;
      if (at(x + 1, y) !== id) outline.path += `M${x + 1} ${y}v1`;
    }
  return outlines;
}

function marksOf(view, outlines) {
  const marks = [], size = textSize(view);
  for (const [id, {path, right, top}] of outlines) {
    const node = nodes.get(id), kind = (node.suspicious ? "suspicious" : "") + (node === state.node ? " chosen" : "");
    marks.push(element("path", {class: "outline " + kind, d: path, transform: `scale(${dx} ${dy})`, "data-node": id}));
    if (view === whole || node !== state.node)
      marks.push(element("text", {class: kind, x: right * dx + 0.3 * size, y: top * dy, "font-size": size}, id));
  }
  return marks;
}

const textSize = (view) => view.port[2] * (view === whole ? 0.026 : 0.042);

// The measurements of the selected node, in the slices that it lies in.
function measureOf(view, outlines) {
  const node = state.node;
  if (!node || !outlines.has(node.id)) return [];
  if (state.measure === "axial") {
    if (node.slice !== state.slice) return [];
    return ["long", "short"].flatMap((name, i) => line(view, name, node.axial[name], node.axial.text[1 - i]));
  }
  const {centre, axes, edges, text} = node.box;
  const end = (k, side) => [0, 1].map((i) => centre[i] + side * edges[k] / 2 * axes[k][i]);
  const cut = cutOf(node.box, (state.slice + 0.5) * dz);
  const marks = cut.length > 2 ? [element("polygon", {class: "cut", points: cut.map((p) => p.join()).join(" ")})] : [];
  for (const k of [2, 1, 0].filter((k) => tilt(node.box, k) <= DRAWN_TILT)) marks.push(...line(view, EDGES[k], [end(k, -1), end(k, 1)], text[k]));
  return marks;
}

// Degrees between an edge and the slice. An edge that runs mostly across the slices would look short and is not drawn.
const tilt = ({axes}, k) => Math.acos(Math.min(1, Math.hypot(axes[k][0], axes[k][1]))) * 180 / Math.PI;

function line(view, name, [[x1, y1], [x2, y2]], text) {
  const marks = [element("line", {class: name, x1, y1, x2, y2})];
  const length = Math.hypot(x2 - x1, y2 - y1), size = textSize(view);
  if (view === close && length > size) {
    // Beyond the upper end, so that the number covers no measured voxel.
    const [x, y, side] = y1 < y2 ? [x1, y1, -1] : [x2, y2, 1];
    const position = {x: x + 1.4 * size * side * (x2 - x1) / length, y: y + (0.35 + side * (y2 - y1) / length) * size};
    marks.push(element("text", {class: name, ...position, "font-size": size, "text-anchor": "middle"}, text));
  }
  return marks;
}

// The polygon in which the plane at height w cuts a box.
function cutOf({centre, axes, edges}, w) {
  const corner = (bits) => centre.map((c, i) => axes.reduce((sum, axis, k) => sum + ((bits >> k) & 1 ? 0.5 : -0.5) * edges[k] * axis[i], c));
  const points = [];
  for (let a = 0; a < 8; a++)
    for (let k = 0; k < 3; k++) {
      const b = a | (1 << k);
      if (b === a) continue;
      const p = corner(a), q = corner(b), along = (w - p[2]) / (q[2] - p[2]);
      if (along >= 0 && along <= 1) points.push([p[0] + along * (q[0] - p[0]), p[1] + along * (q[1] - p[1])]);
    }
  const [u, v] = [0, 1].map((i) => points.reduce((sum, p) => sum + p[i], 0) / points.length);
  const angle = (p) => Math.atan2(p[1] - v, p[0] - u);
  return points.sort((p, q) => angle(p) - angle(q));
}

// --- text -----------------------------------------------------------------------------------------------------------

let announcementTimer = 0;
function updateText(outlines) {
  const {slice, node, grey} = state, place = `Slice ${slice + 1} of ${depth}, ${scene.heights[slice]}`;
  $("where").textContent = place;
  const round = (value) => value.toPrecision(Math.abs(value) < 1000 ? 3 : 4) * 1;
  $("greys").textContent = `W ${round(grey[1] - grey[0])} L ${round((grey[0] + grey[1]) / 2)}`;
  $("what").textContent = node ? `Node ${node.id}` + (outlines.has(node.id) ? "" : ": not in this slice") : "";
  const ids = [...outlines.keys()], nodesText = ids.length ? `node ${ids.join(", ")}` : "no node";
  $("slice").value = slice + 1;
  $("slice").setAttribute("aria-valuetext", `${place}: ${nodesText}`);
  whole.frame.setAttribute("aria-label", `${place}: ${nodesText}`);
  close.frame.setAttribute("aria-label", node ? `Node ${node.id} close up` : "");
  $("legend").replaceChildren(...legend());
  $("overlay").setAttribute("aria-pressed", state.overlay);
  for (const name of ["box", "axial"]) $(name).setAttribute("aria-pressed", state.measure === name);
  for (const row of document.querySelectorAll("[data-node]:is(tr)")) {
    const selected = node && row.dataset.node === String(node.id);
    row.classList.toggle("chosen", selected);
    row.querySelector("button").setAttribute("aria-pressed", selected);
  }
  clearTimeout(announcementTimer); // slices that are only scrolled past are not announced
  announcementTimer = setTimeout(() => { $("announcement").textContent = `${place}: ${nodesText}` + (node ? `. Chosen: node ${node.id}` : ""); }, 250);
}

function legend() {
  const node = state.node;
  if (!node) return [];
  const mark = (kind, text) => {
    const span = document.createElement("span");
    span.className = "key " + kind;
    span.textContent = text;
    return span;
  };
  if (state.measure === "axial") {
    const place = node.slice === state.slice ? "" : `, drawn in slice ${node.slice + 1} where they were measured`;
    return [mark("short", `short ${node.axial.text[0]} mm`), mark("long", `long ${node.axial.text[1]} mm${place}`)];
  }
  const tiltText = (k) => {
    const degrees = Math.round(tilt(node.box, k)), visible = Math.hypot(...node.box.axes[k].slice(0, 2)) * node.box.edges[k];
    if (degrees < 1) return "in the slice";
    return `${degrees}\u00b0 out of the slice, ` + (degrees <= DRAWN_TILT ? `${visible.toFixed(1)} mm seen` : "not drawn");
  };
  const edge = (k) => mark(EDGES[k], `${EDGES[k]} ${node.box.text[k]} mm, ${tiltText(k)}`);
  return [edge(0), edge(1), edge(2), mark("cut", "where the box cuts this slice")];
}

// --- navigation -----------------------------------------------------------------------------------------------------

function toSlice(slice) {
  state.slice = Math.max(0, Math.min(depth - 1, slice));
  draw();
}

function toNode(node) {
  if (!node) return;
  state.node = node;
  const {centre} = node.box, size = Math.max(40, Math.ceil(2.4 * node.axial.text[1]));
  setPort(close, [centre[0] - size / 2, centre[1] - size / 2, size, size]);
  toSlice(node.slice);
}

// In the order of the table; after the last comes the first.
function step(by) {
  const all = scene.nodes, next = all[(all.indexOf(state.node) + by + all.length) % all.length];
  if (!next) return;
  toNode(next);
  rowOf(next).scrollIntoView({block: "nearest"});
}

const rowOf = (node) => document.querySelector(`tr[data-node="${node.id}"]`);
const set = (change) => { Object.assign(state, change); draw(); };
const reset = () => set({grey: [...scene.voxels.window]});
const actions = {
  ArrowUp: () => toSlice(state.slice + 1), ArrowDown: () => toSlice(state.slice - 1),
  ArrowRight: () => toSlice(state.slice + 1), ArrowLeft: () => toSlice(state.slice - 1),
  PageUp: () => toSlice(state.slice + 5), PageDown: () => toSlice(state.slice - 5),
  Home: () => toSlice(0), End: () => toSlice(depth - 1),
  n: () => step(1), p: () => step(-1), r: reset,
  o: () => set({overlay: !state.overlay}), m: () => set({measure: state.measure === "box" ? "axial" : "box"}),
};

// Keys work in the pictures, their controls and the table, and where nothing has the focus; elsewhere they scroll.
document.addEventListener("keydown", (event) => {
  const focused = document.activeElement, action = actions[event.key];
  if (!action || event.ctrlKey || event.metaKey || event.altKey) return;
  if (focused !== document.body && !$("work").contains(focused)) return;
  event.preventDefault();
  action();
});
$("slice").max = depth;
$("slice").addEventListener("input", (event) => toSlice(event.target.value - 1));
$("previous").addEventListener("click", () => step(-1));
$("next").addEventListener("click", () => step(1));
$("overlay").addEventListener("click", actions.o);
$("reset").addEventListener("click", reset);
for (const measure of ["box", "axial"]) $(measure).addEventListener("click", () => set({measure}));
document.querySelector("tbody")?.addEventListener("click", (event) => {
  const row = event.target.closest("tr");
  if (!row) return;
  toNode(nodes.get(Number(row.dataset.node)));
  const top = $("viewer").getBoundingClientRect().top; // on a phone the pictures stand above the table
  if (top < 0) $("viewer").scrollIntoView({behavior: matchMedia("(prefers-reduced-motion: reduce)").matches ? "auto" : "smooth"});
});

let scrolled = 0;
for (const view of views) {
  const frame = view.frame;
  frame.addEventListener("wheel", (event) => {
    if (event.ctrlKey) return; // zooms the page
    event.preventDefault();
    scrolled += event.deltaY * (event.deltaMode ? 40 : 1); // lines or pixels; a touch pad sends many small ones
    if (Math.abs(scrolled) < 30) return;
    toSlice(state.slice - Math.sign(scrolled));
    scrolled = 0;
  }, {passive: false});
  let drag = null;
  frame.addEventListener("pointerdown", (event) => {
    if (event.button) return;
    drag = {x: event.clientX, y: event.clientY, grey: [...state.grey], moved: false};
    frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (!drag) return;
    const right = event.clientX - drag.x, down = event.clientY - drag.y;
    if (!drag.moved && Math.hypot(right, down) < 4) return;
    drag.moved = true;
    const [low, high] = scene.voxels.window, [startLow, startHigh] = drag.grey, unit = (high - low) / 250;
    const size = Math.max(unit, startHigh - startLow + right * unit), level = (startLow + startHigh) / 2 + down * unit;
    set({grey: [level - size / 2, level + size / 2]});
  });
  frame.addEventListener("pointerup", (event) => {
    if (drag && !drag.moved) toNode(nodes.get(labelAt(view, event)));
    drag = null;
  });
  frame.addEventListener("pointercancel", () => { drag = null; });
  frame.addEventListener("dblclick", reset);
}

// The node under the pointer, or the nearest one within reach of a finger.
function labelAt({frame, port: [u0, v0, w, h]}, event) {
  const box = frame.getBoundingClientRect(), reach = Math.ceil(6 * w / box.width / dx);
  const x = Math.floor((u0 + (event.clientX - box.left) / box.width * w) / dx);
  const y = Math.floor((v0 + (event.clientY - box.top) / box.height * h) / dy);
  let best = 0, nearest = Infinity;
  for (let v = Math.max(0, y - reach); v <= Math.min(height - 1, y + reach); v++)
    for (let u = Math.max(0, x - reach); u <= Math.min(width - 1, x + reach); u++) {
      const id = labels[(state.slice * height + v) * width + u], distance = Math.hypot(u - x, v - y);
      if (id && distance < nearest) [best, nearest] = [id, distance];
    }
  return best;
}

setPort(whole, [0, 0, width * dx, height * dy]);
$("viewer").hidden = false;
for (const id of ["close", "legend", "ofnodes"]) $(id).hidden = !first;
if (first) toNode(first);
else draw();
}
