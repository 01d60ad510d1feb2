// Maps of spatially embedded networks as two linked sheets: one module for pages and for notebooks, with no library.
//
// Numbers → text → colours → places → picture → what is shown → the explorer → its doors. Everything down to "what is
// shown" is functions of plain values; only the explorer holds state.

// ---- numbers -------------------------------------------------------------------------------------------------------

const CODES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };
const kept = new WeakMap(); // packed array → what was computed from it

// A packed array: value = low + step · code, and the type's largest code is NaN.
function unpack(data, packed) {
  let array = kept.get(packed);
  if (array) return array;
  const size = packed.shape.reduce((a, b) => a * b, 1);
  const Type = CODES[packed.type];
  const codes = new Type(data.buffer, data.byteOffset + packed.at, size);
  const none = 2 ** (8 * Type.BYTES_PER_ELEMENT) - 1;
  const at = (i) => (codes[i] === none ? NaN : packed.low + packed.step * codes[i]);
  array = { codes, none, at, size, shape: packed.shape, low: packed.low, step: packed.step };
  kept.set(packed, array);
  return array;
}

// Row r of an array whose last axis has n entries.
function row(array, r, n) {
  const out = new Float32Array(n);
  for (let i = 0, from = r * n; i < n; i++) out[i] = array.at(from + i);
  return out;
}

// The least and the greatest value; [Infinity, -Infinity] where there is none.
function extent(array) {
  if (!array.extent) {
    let low = Infinity, high = -Infinity;
    for (const code of array.codes) {
      if (code === array.none) continue;
      if (code < low) low = code;
      if (code > high) high = code;
    }
    array.extent = low > high ? [low, high] : [array.low + array.step * low, array.low + array.step * high];
  }
  return array.extent;
}

const union = (extents) => [Math.min(...extents.map((e) => e[0])), Math.max(...extents.map((e) => e[1]))];
const clamp = (x, low, high) => Math.min(Math.max(x, low), high);

// ---- text ----------------------------------------------------------------------------------------------------------

// A name on one line without invisible characters; the middle of a long one is left out.
function plain(text, most = 48) {
  const line = String(text ?? "").slice(0, 20000).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
  const letters = Array.from(line);
  if (letters.length <= most) return line || "–";
  const end = Math.floor(most / 4);
  return letters.slice(0, most - end - 1).join("") + "…" + letters.slice(-end).join("");
}

// A number with three digits.
function number(x) {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  if (!size) return "0";
  return (size >= 1e5 || size < 1e-3 ? x.toExponential(2) : size >= 1000 ? x.toFixed(0) : x.toPrecision(3)).replaceAll("-", "−");
}

const percent = (x) => `${Number((100 * x).toPrecision(2))} %`;
const epochText = (epoch) => (epoch === 0 ? "before training" : `after epoch ${epoch}`);
const several = (n, one, many = one + "s") => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;

// A field of a CSV file (RFC 4180). A text that a spreadsheet would compute is made a text.
function field(value) {
  if (typeof value === "number") return Number.isFinite(value) ? String(value) : "";
  let text = String(value);
  if (/^\s*[=+\-@]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const slug = (text) => plain(text, 60).toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "maps";

// ---- colours -------------------------------------------------------------------------------------------------------

// Viridis, and ColorBrewer's RdBu from blue to red: even in lightness, and safe for colour-blind eyes.
const VIRIDIS = "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725";
const BLUE_RED = "053061 175290 2a71b2 3f8ec0 6bacd1 9bc9e0 c2ddec e0ecf3 f7f6f6 fbe5d8 fbccb4 f5aa89 e48066 d05548 ba2832 930e26 67001f";
// Petroff's ten colours for categories (arXiv 2107.02270), and two for wires that are kept or cut.
const TEN = "3f90da ffa90e bd1f01 94a4a2 832db6 a96b59 e76300 b9ac70 717581 92dadd";
const KEPT = "3f90da ffa90e";

const parse = (hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0; // as ImageData holds it
const css = (colour) => `rgb(${colour & 255} ${colour >> 8 & 255} ${colour >> 16 & 255})`;

function table(anchors, steps) {
  const points = anchors.split(" ").map(parse);
  if (!steps) return Uint32Array.from(points, packed);
  return Uint32Array.from({ length: steps }, (_, i) => {
    const t = i / (steps - 1) * (points.length - 1), k = Math.min(Math.floor(t), points.length - 2);
    return packed(points[k].map((a, c) => Math.round(a + (points[k + 1][c] - a) * (t - k))));
  });
}

const TABLES = { one: table(VIRIDIS, 256), two: table(BLUE_RED, 256), ten: table(TEN), kept: table(KEPT) };

// A scale from numbers to colours: from 0 to the greatest, or symmetric about 0 where there are two signs.
function ramp([low, high], signed = low < 0) {
  const none = low > high, single = low === high;
  const top = Math.max(Math.abs(low), Math.abs(high)) || 1;
  const colours = TABLES[signed ? "two" : "one"];
  return { colours, low: signed ? -top : 0, high: top, none, single: single ? low : null };
}

// The colour of a value, 0 (transparent) where there is none.
function colour(scale, value) {
  if (!(value === value)) return 0;
  if (scale.names) return scale.colours[value];
  const t = (value - scale.low) / (scale.high - scale.low);
  return scale.colours[t <= 0 ? 0 : t >= 1 ? 255 : Math.round(t * 255)];
}

// What a legend shows: the ticks of a colour bar, if there is one, and colours with their names; no colour is the hatch.
function legendOf(scale, holes) {
  const one = (value, text) => [css(colour(scale, value)), text];
  const keys = scale.names ? scale.names.map((name, c) => one(c, name)) : scale.single == null ? [] : [one(scale.single, number(scale.single))];
  const ticks = keys.length || scale.none ? [] : [scale.low, (scale.low + scale.high) / 2, scale.high].map((t) => number(t));
  return { what: scale.what, ticks, keys: holes ? [...keys, [null, scale.empty ?? "no value"]] : keys };
}

// ---- places --------------------------------------------------------------------------------------------------------

// Where units lie in the picture: x rightwards, y downwards, with what finds units there.
function layOut(data, places) {
  const { kind, units: n } = places;
  const line = places.shape?.length === 1;
  const [rows, cols] = line ? [1, places.shape[0]] : places.shape?.length === 2 ? places.shape : [0, 0];
  const lay = { kind, n, rows, cols, line };
  if (kind === "cells") {
    const spacing = places.spacing ?? [];
    lay.height = line ? Math.max(1, 0.08 * cols) : spacing.length === 2 ? spacing[0] / spacing[1] : 1;
    lay.at = (i) => [i % cols + 0.5, (Math.floor(i / cols) + 0.5) * lay.height];
    lay.box = [0, 0, cols, rows * lay.height];
    lay.radius = Math.min(1, lay.height) / 2;
    return lay;
  }
  const xy = unpack(data, places.xy), up = kind === "hexagons" ? 1 : -1;
  const xs = new Float64Array(n), ys = new Float64Array(n);
  for (let i = 0; i < n; i++) xs[i] = xy.at(2 * i), ys[i] = up * xy.at(2 * i + 1);
  let x0 = Infinity, y0 = Infinity, x1 = -Infinity, y1 = -Infinity;
  for (let i = 0; i < n; i++) {
    x0 = Math.min(x0, xs[i]), x1 = Math.max(x1, xs[i]);
    y0 = Math.min(y0, ys[i]), y1 = Math.max(y1, ys[i]);
  }
  // room for one unit if the units were spread evenly over the box, or the line, that holds them
  const across = x1 - x0, down = y1 - y0, least = Math.max(across, down) / n;
  const spacing = Math.sqrt(Math.max(across, least) * Math.max(down, least) / n) || 1;
  lay.radius = kind === "hexagons" ? 1 / Math.sqrt(3) : kind === "sphere" ? 0.5 : 0.42 * spacing;
  const edge = 1.15 * lay.radius;
  lay.box = [x0 - edge, y0 - edge, x1 + edge, y1 + edge];
  if (kind === "sphere") {
    const a = 2 * Math.SQRT2 * places.radius;
    if (a) lay.ellipse = [a, a / 2], lay.box = [-a - edge, -a / 2 - edge, a + edge, a / 2 + edge];
  }
  return Object.assign(lay, { xs, ys, spacing, up, at: (i) => [xs[i], ys[i]] });
}

// Units by the square of a regular mesh that they lie in.
function mesh(lay) {
  if (lay.mesh) return lay.mesh;
  const [x0, y0, x1, y1] = lay.box, side = Math.max(Math.sqrt((x1 - x0) * (y1 - y0) / lay.n), Math.max(x1 - x0, y1 - y0) / 2048);
  const cols = Math.ceil((x1 - x0) / side) || 1, rows = Math.ceil((y1 - y0) / side) || 1;
  const square = (i) => clamp(Math.floor((lay.ys[i] - y0) / side), 0, rows - 1) * cols
    + clamp(Math.floor((lay.xs[i] - x0) / side), 0, cols - 1);
  const start = new Uint32Array(rows * cols + 1), units = new Uint32Array(lay.n);
  for (let i = 0; i < lay.n; i++) start[square(i) + 1]++;
  for (let s = 0; s < rows * cols; s++) start[s + 1] += start[s];
  const next = start.slice();
  for (let i = 0; i < lay.n; i++) units[next[square(i)]++] = i;
  return lay.mesh = { x0, y0, side, cols, rows, start, units };
}

// The k units nearest to a place, the nearest first, as [squared distance, unit].
function nearest(lay, x, y, k) {
  const { x0, y0, side, cols, rows, start, units } = mesh(lay);
  const cx = Math.floor((x - x0) / side), cy = Math.floor((y - y0) / side);
  for (let reach = 1; ; reach *= 2) {
    const found = [];
    for (let r = Math.max(cy - reach, 0); r <= Math.min(cy + reach, rows - 1); r++) {
      const from = start[r * cols + clamp(cx - reach, 0, cols)], to = start[r * cols + clamp(cx + reach + 1, 0, cols)];
      for (let e = from; e < to; e++) {
        const i = units[e];
        found.push([(lay.xs[i] - x) ** 2 + (lay.ys[i] - y) ** 2, i]);
      }
    }
    found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    const all = reach > rows + cols + Math.abs(cx) + Math.abs(cy);
    if (all || (found.length >= k && found[k - 1][0] <= (reach * side) ** 2)) return found.slice(0, k);
  }
}

// The unit at a place, or null; `slack` is how far beside a unit the pointer may be.
function unitAt(lay, x, y, slack) {
  if (lay.kind === "cells") {
    const c = Math.floor(x), r = Math.floor(y / lay.height), i = r * lay.cols + c;
    return c >= 0 && r >= 0 && c < lay.cols && i < lay.n ? i : null;
  }
  const [one] = nearest(lay, x, y, 1);
  return one && one[0] <= Math.max(1.3 * lay.radius, slack) ** 2 ? one[1] : null;
}

// The next unit to the right (1, 0), below (0, 1), …; the unit itself at the edge.
function step(lay, unit, dx, dy) {
  if (lay.rows) {
    const c = unit % lay.cols + dx, r = Math.floor(unit / lay.cols) + dy, i = r * lay.cols + c;
    return c >= 0 && c < lay.cols && r >= 0 && i < lay.n ? i : unit;
  }
  let best = unit, least = Infinity;
  for (let i = 0; i < lay.n; i++) {
    const x = lay.xs[i] - lay.xs[unit], y = lay.ys[i] - lay.ys[unit];
    const along = x * dx + y * dy, beside = Math.abs(x * dy) + Math.abs(y * dx);
    if (along > 0 && beside <= 1.5 * along && along + beside < least) best = i, least = along + beside;
  }
  return best;
}

// The units around one: at most 8 on a grid, 6 otherwise.
function neighbours(lay, unit) {
  const found = [];
  if (lay.kind === "cells") {
    const c = unit % lay.cols, r = Math.floor(unit / lay.cols);
    for (let y = r - 1; y <= r + 1; y++) for (let x = c - 1; x <= c + 1; x++) {
      const i = y * lay.cols + x;
      if (x >= 0 && x < lay.cols && y >= 0 && i < lay.n && i !== unit) found.push(i);
    }
    return found;
  }
  const far = lay.kind === "hexagons" ? 1.5 ** 2 : Infinity;
  for (const [d, i] of nearest(lay, ...lay.at(unit), 7)) if (i !== unit && d <= far && found.length < 6) found.push(i);
  return found;
}

const middleOf = (lay) => Math.min(Math.floor(lay.rows / 2) * lay.cols + Math.floor((lay.cols || lay.n) / 2), lay.n - 1);

// A unit's place in words.
function placeOf(lay, unit) {
  if (lay.line) return `place ${unit}`;
  if (lay.rows) return `row ${Math.floor(unit / lay.cols)}, column ${unit % lay.cols}`;
  return `x ${number(lay.xs[unit])}, y ${number(lay.up * lay.ys[unit])}`;
}

// A unit's place in numbers.
function numbersOf(lay, unit) {
  if (lay.rows) return [unit % lay.cols, Math.floor(unit / lay.cols)];
  return [lay.xs[unit], lay.up * lay.ys[unit]];
}

// ---- picture -------------------------------------------------------------------------------------------------------

const TILE = 4096; // pixels of a texture's side
const EDGE = 1; // pixels around the sheet
const MANY = 5000; // units that are drawn as shapes; beyond, as pixels

// Sheet to canvas: scale and shift, for a canvas of w × h pixels and a view {zoom, x, y} whose x, y is in its middle.
function projection(lay, view, w, h) {
  const [x0, y0, x1, y1] = lay.box;
  const fit = Math.min((w - 2 * EDGE) / (x1 - x0), (h - 2 * EDGE) / (y1 - y0));
  const scale = fit * view.zoom;
  // inside, the sheet fills the canvas; where it is smaller than the canvas, it is centred
  const middle = (at, low, high, size) => {
    const half = size / 2 / scale;
    return high - low <= 2 * half ? (low + high) / 2 : clamp(at, low + half - EDGE / scale, high - half + EDGE / scale);
  };
  view.x = middle(view.x ?? (x0 + x1) / 2, x0, x1, w);
  view.y = middle(view.y ?? (y0 + y1) / 2, y0, y1, h);
  return { scale, dx: w / 2 - view.x * scale, dy: h / 2 - view.y * scale };
}

// Cells as pictures of one pixel each.
function textures(lay, values, scale) {
  const tiles = [];
  for (let y = 0; y < lay.rows; y += TILE) for (let x = 0; x < lay.cols; x += TILE) {
    const w = Math.min(TILE, lay.cols - x), h = Math.min(TILE, lay.rows - y);
    const canvas = new OffscreenCanvas(w, h), context = canvas.getContext("2d");
    const image = context.createImageData(w, h), pixels = new Uint32Array(image.data.buffer);
    for (let r = 0, p = 0; r < h; r++) {
      const first = (y + r) * lay.cols + x, count = clamp(lay.n - first, 0, w);
      for (let c = 0; c < count; c++) pixels[p + c] = colour(scale, values[first + c]);
      p += w;
    }
    context.putImageData(image, 0, 0);
    tiles.push({ canvas, x, y, w, h });
  }
  return tiles;
}

// A sheet's values as colours.
function coloured(lay, values, scale) {
  if (lay.kind === "cells") return { tiles: textures(lay, values, scale) };
  return { colours: Uint32Array.from(values, (v) => colour(scale, v)) };
}

// Height to width of a sheet's picture.
const aspectOf = ({ box: [x0, y0, x1, y1] }) => clamp((y1 - y0) / (x1 - x0), 0.06, 1);

// The hatch that stands for "no value".
function hatch(dark, ratio) {
  const size = Math.round(6 * ratio), canvas = new OffscreenCanvas(size, size), context = canvas.getContext("2d");
  context.fillStyle = dark ? "#38383b" : "#e4e4e7";
  context.fillRect(0, 0, size, size);
  context.strokeStyle = dark ? "#4a4a4e" : "#d2d2d7";
  context.lineWidth = ratio;
  context.beginPath();
  for (const shift of [-size, 0, size]) context.moveTo(shift, size), context.lineTo(shift + size, 0);
  context.stroke();
  return context.createPattern(canvas, "repeat");
}

function shape(context, lay, x, y, radius) {
  if (lay.kind === "hexagons") {
    for (let k = 0; k < 6; k++) {
      const angle = Math.PI * (k / 3 + 1 / 6);
      context[k ? "lineTo" : "moveTo"](x + radius * Math.cos(angle), y + radius * Math.sin(angle));
    }
    context.closePath();
  } else {
    context.moveTo(x + radius, y);
    context.arc(x, y, radius, 0, 2 * Math.PI);
  }
}

// All units of a sheet in the colours of their values.
function drawSheet(context, lay, p, picture, dark, ratio) {
  const { width: w, height: h } = context.canvas;
  context.clearRect(0, 0, w, h);
  const none = hatch(dark, ratio);
  if (lay.kind === "cells") {
    const { scale, dx, dy } = p, tall = scale * lay.height;
    const full = Math.floor(lay.n / lay.cols), rest = lay.n % lay.cols;
    context.fillStyle = none;
    context.fillRect(dx, dy, lay.cols * scale, full * tall);
    context.fillRect(dx, dy + full * tall, rest * scale, rest ? tall : 0);
    context.imageSmoothingEnabled = false;
    for (const t of picture.tiles) context.drawImage(t.canvas, dx + t.x * scale, dy + t.y * tall, t.w * scale, t.h * tall);
    return;
  }
  const { scale, dx, dy } = p, radius = lay.radius * scale, colours = picture.colours;
  const shown = [];
  for (let i = 0; i < lay.n; i++) {
    const x = lay.xs[i] * scale + dx, y = lay.ys[i] * scale + dy;
    if (x > -radius && y > -radius && x < w + radius && y < h + radius) shown.push(i);
  }
  if (shown.length > MANY) drawPixels(context, lay, p, shown, colours, dark);
  else for (const i of shown) {
    context.beginPath();
    shape(context, lay, lay.xs[i] * scale + dx, lay.ys[i] * scale + dy, radius + (lay.kind === "hexagons" ? 0.35 : 0));
    context.fillStyle = colours[i] ? css(colours[i]) : none;
    context.fill();
  }
  if (lay.ellipse) {
    context.beginPath();
    context.ellipse(dx, dy, lay.ellipse[0] * scale, lay.ellipse[1] * scale, 0, 0, 2 * Math.PI);
    context.strokeStyle = dark ? "#77777c" : "#a1a1a6";
    context.lineWidth = ratio;
    context.stroke();
  }
}

// Many units at once, row by row of their pixels.
function drawPixels(context, lay, { scale, dx, dy }, shown, colours, dark) {
  const { width: w, height: h } = context.canvas;
  const image = context.createImageData(w, h), pixels = new Uint32Array(image.data.buffer);
  const none = packed(parse(dark ? "38383b" : "e4e4e7")), hexagons = lay.kind === "hexagons";
  const wide = (hexagons ? 0.5 : lay.radius) * scale, tall = hexagons ? Math.sqrt(0.1875) * scale : wide;
  for (const i of shown) {
    const x = lay.xs[i] * scale + dx, y = lay.ys[i] * scale + dy, fill = colours[i] || none;
    const top = Math.round(y - tall), bottom = Math.max(Math.round(y + tall), top + 1);
    for (let r = Math.max(top, 0); r < Math.min(bottom, h); r++) {
      const half = hexagons || tall < 1.5 ? wide : Math.sqrt(Math.max(wide ** 2 - (r + 0.5 - y) ** 2, 0));
      const left = Math.round(x - half), right = Math.max(Math.round(x + half), left + 1);
      pixels.fill(fill, r * w + Math.max(left, 0), r * w + clamp(right, 0, w));
    }
  }
  context.putImageData(image, 0, 0);
}

// The outline of a unit: dark with a light rim, which is seen on every colour.
function drawMark(context, lay, p, unit, weight, ratio) {
  const [ux, uy] = lay.at(unit), x = ux * p.scale + p.dx, y = uy * p.scale + p.dy;
  context.beginPath();
  if (lay.kind === "cells") {
    const a = Math.max(p.scale, 6 * ratio), b = Math.max(p.scale * lay.height, 6 * ratio);
    context.rect(x - a / 2, y - b / 2, a, b);
  } else shape(context, lay, x, y, Math.max(lay.radius * p.scale, 3.5 * ratio));
  context.lineJoin = "round";
  for (const [width, style] of [[weight + 2, "#fff"], [weight, "#111"]]) {
    context.lineWidth = width * ratio;
    context.strokeStyle = style;
    context.stroke();
  }
}

// ---- what is shown -------------------------------------------------------------------------------------------------

const has = (net, sheet) => sheet != null && Object.hasOwn(net.sheets, sheet);
// The layers of a network that have both ends on its sheets.
const pairs = (net) => Object.keys(net.layers).filter((name) => has(net, net.layers[name].source) && has(net, net.layers[name].target));
const layersFrom = (net, sheet) => Object.keys(net.layers).filter((name) => net.layers[name].source === sheet);
const layersInto = (net, sheet) => Object.keys(net.layers).filter((name) => net.layers[name].target === sheet);

// A wire of a layer by its entry (target unit · k + j); null where there is none.
function wire(data, layer, entry) {
  const source = unpack(data, layer.origin).at(entry), weight = unpack(data, layer.weight).at(entry);
  if (!(source < layer.units[0]) || !(weight === weight)) return null;
  const length = unpack(data, layer.distance).at(entry), rank = unpack(data, layer.rank).at(entry);
  return { source, target: Math.floor(entry / layer.origin.shape[1]), weight, length, rank };
}

function wiresInto(data, layer, unit) {
  const k = layer.origin.shape[1], found = [];
  if (unit < layer.units[1]) for (let j = 0; j < k; j++) found.push(wire(data, layer, unit * k + j));
  return found.filter(Boolean);
}

function wiresFrom(data, layer, unit) {
  const origin = unpack(data, layer.origin), sources = layer.units[0];
  if (!origin.leaving) {
    const start = new Uint32Array(sources + 1), entries = new Uint32Array(origin.size);
    for (const s of origin.codes) if (s < sources) start[s + 1]++;
    for (let s = 0; s < sources; s++) start[s + 1] += start[s];
    const next = start.slice();
    origin.codes.forEach((s, e) => { if (s < sources) entries[next[s]++] = e; });
    origin.leaving = { start, entries };
  }
  const { start, entries } = origin.leaving;
  if (!(unit < sources)) return [];
  const found = Array.from(entries.subarray(start[unit], start[unit + 1]), (e) => wire(data, layer, e));
  return found.filter(Boolean).sort((a, b) => b.weight - a.weight);
}

// For each unit, the number of its listed wires that are kept if a layer is cut down to a share of its wires.
function keptWires(data, layer, leaving, share) {
  const counts = new Float32Array(layer.units[leaving ? 0 : 1]), rank = unpack(data, layer.rank);
  const origin = unpack(data, layer.origin), k = layer.origin.shape[1];
  for (let e = 0; e < rank.size; e++) {
    const unit = leaving ? origin.codes[e] : Math.floor(e / k);
    if (unit < counts.length && origin.codes[e] < layer.units[0] && rank.at(e) <= share) counts[unit]++;
  }
  return counts;
}

// The class with the largest d′ of each unit.
function preferred(array, units) {
  const out = new Float32Array(units).fill(NaN), best = new Float32Array(units).fill(-Infinity);
  for (let c = 0; c < array.shape[0]; c++) for (let i = 0; i < units; i++) {
    const value = array.at(c * units + i);
    if (value > best[i]) best[i] = value, out[i] = c;
  }
  return out;
}

// The correlation of each unit with one, from factors (k, units).
function correlation(array, units, unit) {
  const out = new Float32Array(units);
  for (let f = 0; f < array.shape[0]; f++) {
    const own = array.at(f * units + unit);
    for (let i = 0; i < units; i++) out[i] += own * array.at(f * units + i);
  }
  return out.map((r) => clamp(r, -1, 1));
}

// The last kept epoch that is not after the chosen one; null is the last.
function epochIndex(sheet, epoch) {
  if (!sheet.epochs?.length || !sheet.epoch_means) return null;
  let found = 0;
  sheet.epochs.forEach((e, i) => { if (epoch == null || e <= epoch) found = i; });
  return found;
}

// The class means of a sheet at an epoch: the array, and the row of class 0.
function meansAt(data, sheet, epoch) {
  const e = epochIndex(sheet, epoch);
  return e == null ? [unpack(data, sheet.means), 0] : [unpack(data, sheet.epoch_means), e * sheet.means.shape[0]];
}

const BY = { weight: "strength |V|", length: "length", kept: "kept or cut" };

// What a sheet can be coloured by, as [word, label].
function quantities(net, name) {
  const sheet = net.sheets[name], classes = sheet.means.shape[0];
  const from = layersFrom(net, name).length, into = layersInto(net, name).length;
  return [
    ["mean", classes > 1 ? "class mean" : "mean response"],
    sheet.selectivity && ["d", "selectivity d′"],
    sheet.selectivity && classes > 1 && classes <= 10 && ["best", "preferred class"],
    sheet.factors && ["r", "correlation with a unit"],
    from && ["in", "wires into a unit"],
    into && ["out", "wires out of a unit"],
    (from || into) && ["kept", "wires kept"],
  ].filter(Boolean);
}

// ---- the explorer --------------------------------------------------------------------------------------------------

// What two panels compare, and which of their settings then differ; all others are the same in both.
const COMPARE = {
  networks: ["two networks", ["network"]],
  seeds: ["two seeds", ["seed"]],
  epochs: ["two epochs", ["epoch"]],
  layer: ["input → output of a layer", ["value"]],
  classes: ["two classes", ["cls"]],
  values: ["two quantities", ["value"]],
  free: ["anything", ["network", "seed", "sheet", "value", "layer", "cls", "epoch"]],
  one: ["nothing: one map", []],
};

const STYLE = `
:host { display: block; text-align: start; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.explorer { --ink: light-dark(#1d1d1f, #ececee); --quiet: light-dark(#5f5f64, #a5a5ab); --line: light-dark(#d2d2d7, #48484c);
  --accent: light-dark(#0066b3, #6cb8ff); container-type: inline-size; color: var(--ink); overflow-wrap: anywhere;
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; font-variant-numeric: tabular-nums; }
h3 { font-size: 16px; font-weight: 600; margin: 0 0 8px; }
.row { display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: end; }
label { display: grid; font-size: 11.5px; color: var(--quiet); min-width: 0; max-width: 100%; }
select { font: inherit; font-size: 14px; color: var(--ink); background: transparent; border: 0; border-bottom: 1px solid var(--line);
  border-radius: 0; padding: 2px 0 3px; max-width: min(17em, 100%); text-overflow: ellipsis; cursor: pointer; }
option { background: light-dark(#fff, #2a2a2c); color: var(--ink); }
button { font: inherit; color: var(--accent); background: none; border: 0; padding: 4px 0; cursor: pointer; }
input { accent-color: var(--accent); width: 100%; margin: 3px 0; height: 18px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.time { display: flex; gap: 10px; align-items: end; }
.time button { width: 1.4em; font-size: 15px; line-height: 1; padding-bottom: 6px; }
.slider { flex: 1 1 14em; max-width: 22em; }
.legend { font-size: 12px; color: var(--quiet); display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; }
.legend .what { flex: 1 1 100%; }
.legend.shared { margin-top: 12px; }
.bar { width: min(240px, 60%); }
.bar i { display: block; height: 9px; }
.bar span { display: flex; justify-content: space-between; line-height: 1.35; color: var(--ink); }
.key { display: inline-flex; align-items: center; gap: 5px; color: var(--ink); }
.key i { width: 11px; height: 11px; flex: none; }
.hatch { background: repeating-linear-gradient(-45deg, light-dark(#e4e4e7, #38383b) 0 3px, light-dark(#cfcfd4, #4e4e53) 3px 4px); }
.panels { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); column-gap: 28px; }
.panels.one { grid-template-columns: minmax(0, 34em); }
.panel { display: grid; grid-template: subgrid / minmax(0, 1fr); grid-row: span 6; row-gap: 8px; margin-top: 14px; }
.panel p { margin: 0; }
.panel b { margin-right: 6px; }
canvas { display: block; width: 100%; cursor: crosshair; user-select: none; -webkit-user-select: none; -webkit-tap-highlight-color: transparent; }
.status { min-height: 1.45em; font-weight: 600; }
.unit { font-size: 12.5px; color: var(--quiet); }
h4 { font-size: inherit; font-weight: 600; color: var(--ink); margin: 9px 0 3px; }
table { border-collapse: collapse; width: 100%; max-width: 30em; color: var(--ink); }
td, th { padding: 0 10px 0 0; line-height: 1.5; text-align: start; font-weight: inherit; }
th { color: var(--quiet); }
.n { text-align: end; white-space: nowrap; width: 4.5em; }
.cut { color: var(--quiet); text-decoration: line-through; }
.tune td:first-child { width: 30%; }
.tune i { display: block; height: 7px; background: #8e8e93; min-width: 1px; }
.tune .now { font-weight: 600; }
.tune .now i { background: var(--accent); }
.note { font-size: 12px; color: var(--quiet); margin: 8px 0 0; }
@container (max-width: 600px) { .panels { grid-template-columns: minmax(0, 1fr); } select { font-size: 16px; } }
@media print { button { display: none; } .explorer { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
`;

const HELP = "Point at a unit, or move with the arrow keys; click or Enter holds it, and Escape lets it go. Zoom with + and − (0 shows the "
  + "whole sheet), by pinching, or with the wheel once the map is selected. Drag, or Shift with the arrow keys, moves the sheet.";

// An element: its properties, then its children. Texts are only ever set as text.
function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "for") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// A text that may be long: shortened, with more of it in a tooltip.
function named(element, text, most) {
  const shown = plain(text, most), whole = plain(text, 300);
  if (element.textContent !== shown) element.textContent = shown;
  element.title = whole === shown ? "" : whole;
  return element;
}

// Numbers of several bytes must lie at multiples of them.
function aligned(buffer) {
  if (!ArrayBuffer.isView(buffer)) return { buffer, byteOffset: 0 };
  return buffer.byteOffset % 4 ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).slice() : buffer;
}

export function mount(host, description, buffer) {
  performance.mark("explorer:start");
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" }), frame = make("div", { className: "explorer" });
  root.replaceChildren(make("style", { textContent: STYLE }), frame);
  const data = aligned(buffer), networks = description.networks.filter((net) => Object.keys(net.sheets).length);
  if (!networks.length) {
    frame.append("There is no sheet to show.");
    return { destroy: () => root.replaceChildren() };
  }

  // -- state
  const control = networks.find((net) => net.name === "control") ?? networks[0];
  const start = { net: control, sheet: Object.keys(control.sheets).at(-1), value: "mean", layer: null, cls: 0, epoch: null };
  const panels = [{ ...start }, { ...start }];
  let compare = "one", link = "same", by = "weight", share = 1;
  let over = null, held = null; // the unit under the pointer and the held one, as {panel, unit}
  const last = new Map(); // sheet → the unit that was pointed at last
  const views = new Map(); // number of places → {zoom, x, y}, the same for all sheets with these places

  const layouts = [];
  const layoutAt = (index) => layouts[index] ??= layOut(data, description.places[index]);
  const sheetOf = (p) => p.net.sheets[p.sheet];
  const layoutOf = (p) => layoutAt(sheetOf(p).places);
  const viewOf = (p) => views.get(sheetOf(p).places) ?? views.set(sheetOf(p).places, { zoom: 1 }).get(sheetOf(p).places);
  const shown = () => (compare === "one" ? [0] : [0, 1]);
  const classCount = (p) => sheetOf(p).means.shape[0];
  const classText = (c) => description.classes[c] ?? String(c);
  const hasClass = (p) => (p.value === "mean" || p.value === "d") && classCount(p) > 1;
  const hasEpochs = (p) => p.value === "mean" && sheetOf(p).epochs?.length > 1;

  const option = (text) => [text, plain(text), plain(text, 300)];
  const distinct = (list) => [...new Set(list)];
  const names = distinct(networks.map((net) => net.name));
  const ofName = (name) => networks.filter((net) => net.name === name);
  const seedOf = (net) => String(net.seed ?? "–");
  const layersOf = (p) => {
    if (compare === "layer") return pairs(p.net);
    const from = layersFrom(p.net, p.sheet), into = layersInto(p.net, p.sheet);
    return { in: from, out: into, kept: distinct([...into, ...from]) }[p.value] ?? [];
  };

  // What a panel can be set to: options are [word, label, whole name].
  const FIELDS = {
    network: {
      label: "network", get: (p) => p.net.name, options: () => names.map(option),
      set: (p, name) => { p.net = ofName(name).find((net) => net.seed === p.net.seed) ?? ofName(name)[0]; },
    },
    seed: {
      label: "seed", get: (p) => seedOf(p.net), options: (p) => distinct(ofName(p.net.name).map(seedOf)).map(option),
      set: (p, seed) => { p.net = ofName(p.net.name).find((net) => seedOf(net) === seed) ?? p.net; },
    },
    sheet: {
      label: "sheet", get: (p) => p.sheet, options: (p) => (compare === "layer" ? [] : Object.keys(p.net.sheets).map(option)),
      set: (p, sheet) => { p.sheet = sheet; },
    },
    value: { label: "colour by", get: (p) => p.value, options: (p) => quantities(p.net, p.sheet), set: (p, value) => { p.value = value; } },
    layer: { label: "layer", get: (p) => p.layer, options: (p) => layersOf(p).map(option), set: (p, layer) => { p.layer = layer; } },
    cls: {
      label: "class", get: (p) => String(p.cls), set: (p, c) => { p.cls = Number(c); },
      options: (p) => (hasClass(p) ? Array.from({ length: classCount(p) }, (_, c) => [String(c), ...option(classText(c)).slice(1)]) : []),
    },
  };

  // A panel that asks for what its network does not have gets what is nearest.
  function settle() {
    for (const p of panels) {
      if (compare === "layer" && pairs(p.net).length) {
        if (!pairs(p.net).includes(p.layer)) p.layer = pairs(p.net).at(-1);
        p.sheet = p.net.layers[p.layer][p === panels[0] ? "source" : "target"];
      }
      if (!has(p.net, p.sheet)) p.sheet = Object.keys(p.net.sheets).at(-1);
      if (!quantities(p.net, p.sheet).some(([word]) => word === p.value)) p.value = "mean";
      if (!layersOf(p).includes(p.layer)) p.layer = layersOf(p)[0] ?? null;
      p.cls = Math.min(p.cls, classCount(p) - 1);
    }
    const there = (focus) => focus && shown().includes(focus.panel) && focus.unit < layoutOf(panels[focus.panel]).n;
    if (!there(held)) held = null;
    if (!there(over)) over = null;
  }

  // Where two things can be compared.
  const ABLE = {
    networks: () => names.length > 1,
    seeds: (net) => ofName(net.name).length > 1,
    epochs: (net, sheet) => net.sheets[sheet].epochs?.length > 1,
    layer: (net) => pairs(net).length,
    classes: (net, sheet) => net.sheets[sheet].means.shape[0] > 1,
    values: (net, sheet) => quantities(net, sheet).length > 1,
    free: (net) => networks.length > 1 || Object.keys(net.sheets).length > 1,
    one: () => true,
  };
  const everywhere = networks.flatMap((net) => Object.keys(net.sheets).map((sheet) => [net, sheet]));
  const choices = Object.keys(COMPARE).filter((word) => everywhere.some((where) => ABLE[word](...where)));

  function setCompare(word) {
    const [a, b] = panels;
    if (word !== "free") {
      if (compare === "layer") Object.assign(a, { sheet: b.sheet, value: "mean" });
      if (!ABLE[word](a.net, a.sheet)) [a.net, a.sheet] = everywhere.find((where) => ABLE[word](...where));
      Object.assign(b, a);
    }
    compare = word;
    link = word === "layer" ? "wires" : "same";
    if (word === "networks") FIELDS.network.set(b, names.filter((name) => name !== a.net.name).at(-1));
    if (word === "seeds") b.net = ofName(a.net.name).find((net) => net !== a.net);
    if (word === "epochs") Object.assign(a, { value: "mean", epoch: sheetOf(a).epochs[0] }), Object.assign(b, { value: "mean", epoch: null });
    if (word === "classes") b.cls = (a.cls + 1) % classCount(a);
    if (word === "values") b.value = quantities(b.net, b.sheet).find(([value]) => value !== a.value)[0];
    settle();
  }

  // -- what a panel shows
  // The unit of a sheet of n units whose correlations or wires are shown: the one in focus; the same unit where the
  // focus is on another sheet; the last one pointed at; the middle one.
  function probe(net, sheet, n) {
    const focus = held ?? over, there = focus && panels[focus.panel];
    if (focus && focus.unit < n && there.sheet === sheet) return focus.unit;
    if (focus && linkNow() === "same" && layoutOf(there).n === n) return focus.unit;
    if (last.get(sheet) < n) return last.get(sheet);
    return has(net, sheet) ? middleOf(layoutAt(net.sheets[sheet].places)) : Math.floor(n / 2);
  }
  const unitName = (net, sheet, unit) => (has(net, sheet) ? placeOf(layoutAt(net.sheets[sheet].places), unit) : `unit ${unit}`);

  // What the values of a panel are, in words, and the values; the key tells whether they have changed.
  function shownOn(p) {
    const sheet = sheetOf(p), n = layoutOf(p).n, layer = p.net.layers[p.layer];
    const told = (text, key, values) => ({ text, key: [networks.indexOf(p.net), p.sheet, p.value, ...key].join("|"), values });
    const ofClass = classCount(p) > 1 ? ` of “${plain(classText(p.cls), 24)}”` : "";
    switch (p.value) {
      case "mean": {
        const e = epochIndex(sheet, p.epoch), [array, first] = meansAt(data, sheet, p.epoch);
        const when = e == null ? "" : `, ${epochText(sheet.epochs[e])}`;
        return told((ofClass ? "class mean" : "mean response") + ofClass + when, [p.cls, e], () => row(array, first + p.cls, n));
      }
      case "d": return told(`selectivity d′${ofClass}`, [p.cls], () => row(unpack(data, sheet.selectivity), p.cls, n));
      case "best": return told("preferred class", [], () => preferred(unpack(data, sheet.selectivity), n));
      case "r": {
        const unit = probe(p.net, p.sheet, n);
        return told(`correlation with the unit at ${placeOf(layoutOf(p), unit)}`, [unit], () => correlation(unpack(data, sheet.factors), n, unit));
      }
      case "kept": {
        const leaving = layer.target !== p.sheet;
        return told(`wires kept ${leaving ? "out of" : "into"} each unit`, [p.layer, share], () => keptWires(data, layer, leaving, share));
      }
    }
    const into = p.value === "in", end = into ? layer.target : layer.source;
    const unit = probe(p.net, end, layer.units[into ? 1 : 0]);
    const text = `wires ${into ? "into" : "out of"} the unit at ${unitName(p.net, end, unit)}${end == null ? "" : ` of ${plain(end, 24)}`}`;
    return told(text, [p.layer, by, unit, by === "kept" && share], () => {
      const values = new Float32Array(n).fill(NaN);
      for (const one of into ? wiresInto(data, layer, unit) : wiresFrom(data, layer, unit)) {
        values[into ? one.source : one.target] = { weight: one.weight, length: one.length, kept: one.rank <= share ? 0 : 1 }[by];
      }
      return values;
    });
  }

  // Panels that have this in common share a scale.
  const scaleKey = (p) => (p.value === "in" || p.value === "out" ? `wires by ${by}` : p.value);

  // One scale for all panels that show the same, over all their classes and epochs, so that it never jumps.
  function scaleOf(p) {
    const same = shown().map((k) => panels[k]).filter((q) => scaleKey(q) === scaleKey(p));
    const over = (pick) => union(same.map(pick)), layer = (q) => q.net.layers[q.layer];
    const most = Math.max(...same.map((q) => layer(q)?.origin.shape[1] ?? 0)), classes = Math.max(...same.map(classCount));
    const epochs = same.some((q) => epochIndex(sheetOf(q), null) != null);
    const scope = (...all) => {
      const parts = [same.length > 1 && "both maps", ...all].filter(Boolean);
      return parts.length ? `; one scale for ${parts.join(", ")}` : "";
    };
    const notShown = p.value === "in" ? `not among the ${several(most, "strongest wire")} into it` : "no wire from it among the strongest";
    switch (scaleKey(p)) {
      case "mean": return {
        ...ramp(over((q) => extent(meansAt(data, sheetOf(q), null)[0]))),
        what: (classes > 1 ? "class mean" : "mean response") + scope(classes > 1 && "all classes", epochs && "all epochs"),
      };
      case "d": return { ...ramp(over((q) => extent(unpack(data, sheetOf(q).selectivity))), true), what: `selectivity d′${scope(classes > 1 && "all classes")}` };
      case "best": return { colours: TABLES.ten, names: Array.from({ length: classes }, (_, c) => plain(classText(c), 24)), what: "preferred class: the one with the largest d′" };
      case "r": return { ...ramp([-1, 1], true), what: `correlation over items${scope()}` };
      case "kept": return { ...ramp([0, most]), what: `wires kept if the layer keeps ${percent(share)}, of the ${most} strongest into each unit` };
      case "wires by kept": return { colours: TABLES.kept, names: ["kept", "cut"], what: `wires if the layer keeps ${percent(share)}, the strongest`, empty: notShown };
      case "wires by length": return { ...ramp(over((q) => [0, extent(unpack(data, layer(q).distance))[1]])), what: `length of a wire, in spacings of the source${scope("all units")}`, empty: notShown };
      default: return { ...ramp(over((q) => [0, extent(unpack(data, layer(q).weight))[1]])), what: `strength |V| of a wire${scope("all units")}`, empty: notShown };
    }
  }

  const titleOf = (p, most = 40) => {
    const seed = p.net.seed == null ? "" : `, seed ${p.net.seed}`;
    return `${plain(p.net.name, most)}${seed}: ${plain(p.sheet, most)}, ${shownOn(p).text}`;
  };

  // Wires light up only where some layer runs between the two sheets.
  const between = () => panels.some((p, k) => Object.values(p.net.layers).some((layer) => layer.source === p.sheet && layer.target === panels[1 - k].sheet));
  const linkNow = () => (link === "wires" && compare !== "one" && between() ? "wires" : "same");

  // The units of panel k that go with the unit in focus in the other panel: unit → weight of its outline.
  function linked(focus, k) {
    const here = panels[focus.panel], there = panels[k], found = new Map();
    if (linkNow() === "same") return layoutOf(here).n === layoutOf(there).n ? found.set(focus.unit, 1.8) : found;
    const add = (unit, one) => found.set(unit, one.rank <= share ? 1.4 : 0.5);
    for (const layer of Object.values(here.net.layers)) {
      if (layer.target === here.sheet && layer.source === there.sheet) for (const one of wiresInto(data, layer, focus.unit)) add(one.source, one);
      if (layer.source === here.sheet && layer.target === there.sheet) for (const one of wiresFrom(data, layer, focus.unit)) add(one.target, one);
    }
    return found;
  }

  function drawMarks(context, lay, p, k, ratio) {
    const focus = held ?? over, mark = (unit, weight) => unit < lay.n && drawMark(context, lay, p, unit, weight, ratio);
    if (focus && focus.panel !== k) linked(focus, k).forEach((weight, unit) => mark(unit, weight));
    if (held?.panel === k) mark(held.unit, 2.5);
    if (over?.panel === k && over.unit !== held?.unit) mark(over.unit, 1.2);
  }

  // -- controls
  const updates = []; // what each control does when a setting has changed
  function chooser(label, whose, options, get, set, visible) {
    const select = make("select", { "aria-label": whose ? `${label} of map ${whose}` : label }), holder = make("label", {}, label, select);
    let filled = "";
    select.addEventListener("change", () => { set(select.value); settle(); changed(); });
    updates.push(() => {
      const all = options(), signature = JSON.stringify(all);
      holder.hidden = !visible() || all.length < 2;
      if (filled !== signature) select.replaceChildren(...all.map(([value, textContent, title]) => make("option", { value, textContent, title: title === textContent ? "" : title ?? "" })));
      filled = signature;
      select.value = get();
    });
    return holder;
  }
  // A field of panel k, or of both panels (null).
  const choosers = (k) => Object.entries(FIELDS).map(([name, { label, options, get, set }]) => {
    const p = panels[k ?? 0];
    const change = (word) => {
      const before = get(p), other = panels[1 - k];
      for (const one of k == null ? panels : [p]) set(one, word);
      // two of a kind are never the same one: they change places
      if (other && compare !== "free" && compare !== "layer" && get(other) === get(p)) set(other, before);
    };
    return chooser(label, k == null ? "" : "AB"[k], () => options(p), () => get(p), change, () => COMPARE[compare][1].includes(name) === (k != null));
  });

  // Time: a slider over the kept epochs of panel k, or of both (null).
  const still = matchMedia("(prefers-reduced-motion: reduce)"), timers = [];
  function timeFor(k) {
    const slider = make("input", { type: "range", min: 0, step: 1 }), text = make("span"), whose = k == null ? "" : ` of map ${"AB"[k]}`;
    const button = make("button", { type: "button" }), holder = make("div", { className: "time slider" }, button, make("label", { className: "slider" }, text, slider));
    slider.setAttribute("aria-label", `epoch${whose}`);
    const moved = () => (k == null ? shown() : [k]).map((j) => panels[j]).filter(hasEpochs);
    const epochs = () => distinct(moved().flatMap((p) => sheetOf(p).epochs)).sort((a, b) => a - b);
    const at = () => epochs().findLastIndex((e) => e <= (moved()[0].epoch ?? Infinity));
    const go = (i) => { for (const p of k == null ? panels : [panels[k]]) p.epoch = epochs()[i]; changed(); };
    const pause = () => { clearInterval(timers[k ?? 2]); timers[k ?? 2] = 0; };
    const next = () => { if (at() < epochs().length - 1) go(at() + 1); else pause(), changed(); };
    slider.addEventListener("input", () => { pause(); go(Number(slider.value)); });
    button.addEventListener("click", () => {
      if (timers[k ?? 2]) return pause(), changed();
      if (!still.matches) timers[k ?? 2] = setInterval(next, 333); // with reduced motion, a press is one step
      if (at() < epochs().length - 1) next(); else go(0);
    });
    updates.push(() => {
      const all = epochs();
      holder.hidden = COMPARE[compare][1].includes("epoch") !== (k != null) || all.length < 2;
      if (holder.hidden) return pause();
      const words = epochText(all[at()]), act = timers[k ?? 2] ? "Pause" : still.matches ? "Next epoch" : "Play the epochs";
      slider.max = all.length - 1, slider.value = at();
      slider.setAttribute("aria-valuetext", words);
      text.textContent = `${words} (of ${all.at(-1)})`;
      button.textContent = act === "Pause" ? "❚❚" : "▶";
      button.setAttribute("aria-label", act + whose);
    });
    return holder;
  }

  function shareSlider() {
    const slider = make("input", { type: "range", min: -3, max: 0, step: 0.05, value: 0 }), text = make("span");
    const holder = make("label", { className: "slider" }, text, slider), words = "strongest share of wires kept";
    slider.setAttribute("aria-label", words);
    slider.addEventListener("input", () => { share = 10 ** Number(slider.value); changed(); });
    updates.push(() => {
      const cut = shown().some((k) => ["kept", "wires by kept"].includes(scaleKey(panels[k])));
      holder.hidden = !cut && (linkNow() === "same" || share === 1);
      text.textContent = `${words}: ${percent(share)}`;
      slider.setAttribute("aria-valuetext", percent(share));
    });
    return holder;
  }

  const title = named(make("h3", { hidden: !description.title }), description.title, 120);
  const controls = make("div", { className: "row" },
    chooser("compare", "", () => choices.map((word) => [word, COMPARE[word][0]]), () => compare, setCompare, () => true), ...choosers(null),
    chooser("wires by", "", () => Object.entries(BY), () => by, (word) => { by = word; }, () => shown().some((k) => scaleKey(panels[k]).startsWith("wires"))),
    chooser("link", "", () => [["same", "same unit"], ["wires", "its wires"]], () => link, (word) => { link = word; }, () => compare !== "one" && between()),
    timeFor(null), shareSlider());
  const sharedLegend = make("div", { className: "legend shared" });
  const parts = [0, 1].map((k) => {
    const part = {
      own: make("div", { className: "row" }, ...choosers(k), timeFor(k)), letter: make("b", { textContent: "AB"[k] }), name: make("span"),
      legend: make("div", { className: "legend" }), status: make("p", { className: "status", role: "status" }), unit: make("div", { className: "unit" }),
      canvas: make("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "map of units", "aria-describedby": "help" }),
      base: new OffscreenCanvas(1, 1),
    };
    part.holder = make("section", { className: "panel", "aria-label": `map ${"AB"[k]}` }, part.own, make("p", {}, part.letter, part.name), part.legend, part.canvas, part.status, part.unit);
    return part;
  });
  const panelRow = make("div", { className: "panels" }, ...parts.map((part) => part.holder));
  const button = (textContent, click) => { const one = make("button", { type: "button", textContent }); one.addEventListener("click", click); return one; };
  frame.append(title, controls, sharedLegend, panelRow, make("p", { className: "note", id: "help", textContent: HELP }),
    make("div", { className: "row" }, button("Save picture (PNG)", savePicture), button("Save numbers (CSV)", saveNumbers)),
    named(make("p", { className: "note", hidden: !description.note }), description.note, 600));

  // -- drawing: once for each frame; controls only when a setting has changed
  const stop = new AbortController();
  let scheduled = 0, stale = true;
  function redraw() { scheduled ||= requestAnimationFrame(draw); }
  function changed() { stale = true; redraw(); }

  function updateControls() {
    for (const update of updates) update();
    panelRow.classList.toggle("one", compare === "one");
    parts[1].holder.hidden = parts[0].letter.hidden = compare === "one";
    for (const part of parts) {
      part.own.hidden = [...part.own.children].every((child) => child.hidden);
      part.unit.style.minHeight = "";
    }
  }

  function updateLegend(element, scale, holes) {
    const { what, ticks, keys } = legendOf(scale, holes), signature = JSON.stringify([what, ticks, keys]);
    if (element.dataset.shown === signature) return;
    element.dataset.shown = signature;
    const stops = Array.from({ length: 33 }, (_, i) => css(scale.colours[Math.round(i * 255 / 32)]));
    const bar = make("span", { className: "bar" }, make("i", { style: `background:linear-gradient(90deg,${stops})` }), make("span", {}, ...ticks.map((t) => make("span", { textContent: t }))));
    element.replaceChildren(make("span", { className: "what", textContent: what }), ...(ticks.length ? [bar] : []),
      ...keys.map(([fill, text]) => make("span", { className: "key" }, make("i", fill ? { style: `background:${fill}` } : { className: "hatch" }), text)));
  }

  const isDark = () => {
    const [r, g, b] = getComputedStyle(frame).color.match(/[\d.]+/g);
    return 0.3 * r + 0.6 * g + 0.1 * b > 128;
  };

  function resize(part, lay) {
    const ratio = Math.min(devicePixelRatio || 1, 3), wide = part.holder.clientWidth, tall = wide * aspectOf(lay);
    const w = Math.round(wide * ratio), h = Math.round(tall * ratio);
    if (part.w === w && part.h === h) return;
    Object.assign(part, { w, h, ratio });
    part.canvas.style.height = `${tall}px`;
    part.canvas.width = part.base.width = w;
    part.canvas.height = part.base.height = h;
  }

  // What is needed to draw panel k; the colours are made again only where the values or the scale have changed.
  function stateOf(k) {
    const part = parts[k], p = panels[k], now = shownOn(p), scale = scaleOf(p), lay = layoutOf(p);
    if (part.shown?.key !== now.key) part.shown = { key: now.key, values: now.values() };
    const { values } = part.shown, key = [now.key, scale.low, scale.high, scale.names?.length].join("|");
    if (part.picture?.key !== key) part.picture = { key, holes: values.some(Number.isNaN), ...coloured(lay, values, scale) };
    return { values, scale, lay, picture: part.picture, title: titleOf(p) };
  }

  function draw() {
    scheduled = 0;
    if (stale) updateControls();
    const dark = isDark(), states = shown().map(stateOf), holes = states.some(({ picture }) => picture.holes);
    sharedLegend.hidden = states.length > 1 && scaleKey(panels[0]) !== scaleKey(panels[1]);
    if (!sharedLegend.hidden) updateLegend(sharedLegend, states[0].scale, holes);
    states.forEach((state, k) => {
      const part = parts[k], { lay, scale, picture, title } = state;
      part.legend.hidden = !sharedLegend.hidden;
      if (sharedLegend.hidden) updateLegend(part.legend, scale, picture.holes);
      named(part.name, title, 160);
      part.canvas.setAttribute("aria-label", plain(title, 160));
      updateUnit(k, state);
      resize(part, lay);
      const { w, h, ratio } = part, view = viewOf(panels[k]);
      if (!w || !h) return;
      const p = projection(lay, view, w, h), key = [picture.key, w, h, p.scale, p.dx, p.dy, dark].join("|");
      if (part.key !== key) drawSheet(part.base.getContext("2d"), lay, p, picture, dark, ratio);
      part.key = key;
      const context = part.canvas.getContext("2d");
      context.clearRect(0, 0, w, h);
      context.drawImage(part.base, 0, 0);
      drawMarks(context, lay, p, k, ratio);
      part.canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
    });
    if (stale) performance.mark("explorer:drawn");
    stale = false;
  }

  // -- the unit in focus
  function updateUnit(k, { values, scale, lay, picture }) {
    const part = parts[k], p = panels[k], focus = over ?? held, here = focus?.panel === k;
    const unit = here || (focus && linkNow() === "same" && linked(focus, k).size) ? focus.unit : null;
    const state = JSON.stringify([unit, focus, held, picture.key, p.epoch, share, link]);
    if (part.told === state) return;
    part.told = state;
    const rows = [], line = (textContent, tag = "p") => rows.push(make(tag, { textContent }));
    if (unit == null) part.status.textContent = focus && linkNow() === "wires" ? `wired to ${several(linked(focus, k).size, "unit")}` : "";
    else {
      const text = (v) => (Number.isNaN(v) ? scale.empty ?? "no value" : scale.names ? scale.names[v] : number(v));
      part.status.textContent = `${placeOf(lay, unit)}: ${text(values[unit])}${here && held?.panel === k && held.unit === unit ? " (held)" : ""}`;
      const around = neighbours(lay, unit).map((i) => values[i]).filter((v) => !Number.isNaN(v)), of = several(around.length, "neighbour");
      const alike = scale.names ? `${around.filter((v) => v === values[unit]).length} of ${of} alike` : `mean of ${of} ${number(around.reduce((a, b) => a + b, 0) / around.length)}`;
      line(`unit ${unit.toLocaleString("en")}${around.length ? `; ${alike}` : ""}`);
      const classes = classCount(p);
      if (classes > 1) {
        line(classes > 12 ? `Largest of ${classes} class means` : "Class means", "h4");
        rows.push(tuning(p, unit));
      }
      const tell = (way, name, wires, net, end) => {
        line(`Strongest wires ${way}: ${plain(name, 24)}`, "h4");
        if (wires.length) rows.push(wireTable(wires, way, (one) => unitName(net, end, way === "in" ? one.source : one.target)));
        else line("none among those shown");
      };
      for (const name of layersInto(p.net, p.sheet)) tell("in", name, wiresInto(data, p.net.layers[name], unit), p.net, p.net.layers[name].source);
      for (const name of layersFrom(p.net, p.sheet)) tell("out", name, wiresFrom(data, p.net.layers[name], unit), p.net, p.net.layers[name].target);
    }
    part.unit.replaceChildren(...rows);
    // what is below does not move when units have more or less to tell
    part.unit.style.minHeight = `${Math.max(part.unit.offsetHeight, parseFloat(part.unit.style.minHeight) || 0)}px`;
  }

  // A unit's class means as bars; of many classes, those with the largest.
  function tuning(p, unit) {
    const [array, first] = meansAt(data, sheetOf(p), p.epoch), { low, high } = ramp(extent(array)), n = layoutOf(p).n;
    let all = Array.from({ length: classCount(p) }, (_, c) => [c, array.at((first + c) * n + unit)]);
    if (all.length > 12) all = all.filter(([, v]) => !Number.isNaN(v)).sort((a, b) => b[1] - a[1]).slice(0, 10);
    return make("table", { className: "tune" }, ...all.map(([c, value]) => {
      const long = 100 * Math.abs(value) / (high - low), from = 100 * Math.min(value, 0) / (high - low) - 100 * low / (high - low);
      const bar = make("i", { style: Number.isNaN(value) ? "visibility:hidden" : `width:${long}%;margin-left:${from}%` });
      return make("tr", { className: hasClass(p) && c === p.cls ? "now" : "" }, named(make("td"), classText(c), 24), make("td", {}, bar), make("td", { className: "n", textContent: number(value) }));
    }));
  }

  function wireTable(wires, way, place) {
    const cells = (tag, [first, ...rest]) => [make(tag, { textContent: first }), ...rest.map((textContent) => make(tag, { className: "n", textContent }))];
    return make("table", {}, make("tr", {}, ...cells("th", [way === "in" ? "from" : "to", "|V|", "length"])), ...wires.slice(0, 5).map((one) =>
      make("tr", { className: one.rank <= share ? "" : "cut" }, ...cells("td", [place(one), number(one.weight), number(one.length)]))));
  }

  // -- pointer and keys
  function point(k, unit) {
    if (unit == null ? !over : over?.panel === k && over.unit === unit) return;
    over = unit == null ? null : { panel: k, unit };
    if (over) last.set(panels[k].sheet, unit);
    redraw();
  }
  function hold(k, unit) {
    held = unit == null || (held?.panel === k && held.unit === unit) ? null : { panel: k, unit };
    redraw();
  }
  const projected = (k) => projection(layoutOf(panels[k]), viewOf(panels[k]), parts[k].w, parts[k].h);
  // What is at x, y in the canvas stays there.
  function zoomBy(k, factor, x = parts[k].w / 2, y = parts[k].h / 2) {
    const { w, h } = parts[k], lay = layoutOf(panels[k]), view = viewOf(panels[k]), before = projected(k);
    view.zoom = clamp(view.zoom * factor, 1, Math.max((lay.box[2] - lay.box[0]) / (8 * lay.radius), 1));
    const { scale } = projected(k);
    view.x = (x - before.dx) / before.scale + (w / 2 - x) / scale;
    view.y = (y - before.dy) / before.scale + (h / 2 - y) / scale;
    redraw();
  }
  function panBy(k, dx, dy) {
    const view = viewOf(panels[k]), { scale } = projected(k);
    view.x -= dx / scale, view.y -= dy / scale;
    redraw();
  }
  // Keep the unit that the keys have moved to inside the canvas.
  function follow(k, unit) {
    const { w, h } = parts[k], { scale, dx, dy } = projected(k), [x, y] = layoutOf(panels[k]).at(unit), edge = Math.min(w, h) / 10;
    const px = x * scale + dx, py = y * scale + dy;
    if (viewOf(panels[k]).zoom > 1) panBy(k, clamp(px, edge, w - edge) - px, clamp(py, edge, h - edge) - py);
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  parts.forEach((part, k) => {
    const { canvas } = part, touches = new Map();
    let down = null, dragged = false, spread = 0;
    const pixel = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * part.w / box.width, (event.clientY - box.top) * part.h / box.height];
    };
    const unitUnder = (event) => {
      const [x, y] = pixel(event), { scale, dx, dy } = projected(k);
      return unitAt(layoutOf(panels[k]), (x - dx) / scale, (y - dy) / scale, 6 * part.ratio / scale);
    };
    const on = (types, act, options) => types.split(" ").forEach((type) => canvas.addEventListener(type, act, options));
    on("pointerdown", (event) => {
      if (event.button) return;
      down = pixel(event);
      touches.set(event.pointerId, down);
      dragged = touches.size > 1, spread = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    on("pointermove", (event) => {
      const now = pixel(event), before = touches.get(event.pointerId);
      if (!before) return point(k, unitUnder(event));
      touches.set(event.pointerId, now);
      if (touches.size === 2) {
        const [a, b] = [...touches.values()], apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (spread) zoomBy(k, apart / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        spread = apart;
      } else if (dragged ||= Math.hypot(now[0] - down[0], now[1] - down[1]) > 4 * part.ratio) panBy(k, now[0] - before[0], now[1] - before[1]);
    });
    on("pointerup pointercancel", (event) => {
      if (!touches.delete(event.pointerId)) return;
      spread = 0;
      if (event.type === "pointercancel" || dragged) return;
      point(k, unitUnder(event));
      hold(k, unitUnder(event));
    });
    on("pointerleave", () => touches.size || point(k, null));
    on("wheel", (event) => {
      const outermost = event.deltaY > 0 && viewOf(panels[k]).zoom <= 1;
      if (outermost || !(event.ctrlKey || event.metaKey || root.activeElement === canvas)) return; // the page scrolls
      event.preventDefault();
      zoomBy(k, Math.exp(-clamp(event.deltaY * (event.deltaMode ? 30 : 1), -100, 100) / (event.ctrlKey ? 80 : 250)), ...pixel(event));
    }, { passive: false });
    on("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const lay = layoutOf(panels[k]), arrow = ARROWS[event.key], { key } = event;
      const known = [over?.panel === k && over.unit, held?.panel === k && held.unit, last.get(panels[k].sheet)].find((unit) => unit < lay.n && unit !== false);
      const here = known ?? middleOf(lay);
      if (arrow && event.shiftKey) panBy(k, -arrow[0] * part.w / 8, -arrow[1] * part.h / 8);
      else if (arrow) {
        const unit = known == null ? here : step(lay, here, ...arrow);
        point(k, unit);
        follow(k, unit);
      } else if (key === "Enter" || key === " ") point(k, here), hold(k, here);
      else if (key === "Escape") { if (held) hold(k, null); else point(k, null); }
      else if (key === "+" || key === "=") zoomBy(k, 1.5);
      else if (key === "-") zoomBy(k, 1 / 1.5);
      else if (key === "0") zoomBy(k, 0);
      else return;
      event.preventDefault();
    });
  });

  // -- saving
  function save(blob, ending) {
    const href = URL.createObjectURL(blob), anchor = make("a", { href, download: `${slug(description.title)}.${ending}` });
    frame.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(href), 10000);
  }

  function saveNumbers() {
    const states = shown().map(stateOf), lays = states.map(({ lay }) => lay), places = lays.every((lay) => lay === lays[0]) ? lays.slice(0, 1) : lays;
    const letter = (k, of) => (of.length > 1 ? `${"AB"[k]}: ` : "");
    const lines = [["unit", ...places.flatMap((lay, k) => (lay.rows ? ["column", "row"] : ["x", "y"]).map((axis) => letter(k, places) + axis)),
      ...states.map((_, k) => letter(k, states) + titleOf(panels[k], 200))]];
    // a 32-bit number has seven digits at most
    const value = ({ values, scale }, i) => (scale.names ? scale.names[values[i]] ?? "" : Number((values[i] ?? NaN).toPrecision(7)));
    for (let i = 0; i < Math.max(...lays.map(({ n }) => n)); i++) {
      lines.push([i, ...places.flatMap((lay) => (i < lay.n ? numbersOf(lay, i) : ["", ""])), ...states.map((state) => value(state, i))]);
    }
    save(new Blob(lines.map((line) => `${line.map(field).join(",")}\r\n`), { type: "text/csv" }), "csv");
  }

  // Both maps with their titles and legends on one canvas, at twice the size.
  function savePicture() {
    const states = shown().map(stateOf), dark = isDark(), ratio = 2, wide = 460 * ratio, gap = 28 * ratio, edge = 16 * ratio, line = 18 * ratio;
    const tall = Math.round(wide * Math.max(...states.map(({ lay }) => aspectOf(lay)))), ink = dark ? "#ececee" : "#1d1d1f";
    const legends = sharedLegend.hidden ? states : states.slice(0, 1), rows = legends.some(({ scale }) => scale.names) ? 4 : 3;
    const canvas = make("canvas", { width: 2 * edge + states.length * (wide + gap) - gap, height: 2 * edge + tall + (rows + 2) * line }), context = canvas.getContext("2d");
    const text = (words, x, y, most, weight = 400) => {
      context.font = `${weight} ${12 * ratio}px system-ui, sans-serif`;
      context.fillStyle = ink;
      context.fillText(words, x, y, most);
    };
    context.textBaseline = "top";
    context.fillStyle = dark ? "#1c1c1e" : "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    states.forEach(({ lay, picture, title }, k) => {
      const x = edge + k * (wide + gap), indent = states.length > 1 ? 16 * ratio : 0, high = Math.round(wide * aspectOf(lay));
      const base = new OffscreenCanvas(wide, high), inner = base.getContext("2d"), p = projection(lay, { ...viewOf(panels[k]) }, wide, high);
      if (indent) text("AB"[k], x, edge, indent, 700);
      text(plain(title, 100), x + indent, edge, wide - indent);
      drawSheet(inner, lay, p, picture, dark, ratio);
      drawMarks(inner, lay, p, k, ratio);
      context.drawImage(base, x, edge + 1.4 * line);
    });
    legends.forEach(({ scale, picture }, k) => {
      const { what, ticks, keys } = legendOf(scale, legends.length > 1 ? picture.holes : states.some((state) => state.picture.holes));
      const left = edge + k * (wide + gap), bar = 240 * ratio, size = 11 * ratio;
      let x = left, y = edge + 2 * line + tall;
      text(what, x, y, wide);
      y += 1.2 * line;
      if (ticks.length) {
        for (let i = 0; i < bar; i++) context.fillStyle = css(scale.colours[Math.floor(i * 256 / bar)]), context.fillRect(x + i, y, 1, size);
        ticks.forEach((tick, i) => { context.textAlign = ["left", "center", "right"][i]; text(tick, x + i * bar / 2, y + size + 2 * ratio); });
        context.textAlign = "left";
        x += bar + 20 * ratio;
      }
      for (const [fill, words] of keys) {
        const long = size + 6 * ratio + context.measureText(words).width;
        if (x > left && x + long > left + wide) x = left, y += line;
        context.fillStyle = fill ?? hatch(dark, ratio);
        context.fillRect(x, y, size, size);
        text(words, x + size + 6 * ratio, y - ratio);
        x += long + 14 * ratio;
      }
    });
    canvas.toBlob((blob) => blob && save(blob, "png"));
  }

  // -- life
  // A notebook's own theme goes before the system's.
  const themed = () => {
    const light = document.body.dataset.jpThemeLight;
    frame.style.colorScheme = light ? (light === "true" ? "light" : "dark") : "";
    redraw();
  };
  const resized = new ResizeObserver(redraw), rethemed = new MutationObserver(themed);
  setCompare(choices[0]);
  themed();
  resized.observe(frame);
  rethemed.observe(document.body, { attributes: true, attributeFilter: ["data-jp-theme-light"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal: stop.signal });
  addEventListener("beforeprint", draw, { signal: stop.signal });
  draw();
  return {
    destroy() {
      stop.abort();
      resized.disconnect();
      rethemed.disconnect();
      timers.forEach(clearInterval);
      cancelAnimationFrame(scheduled);
      root.replaceChildren();
    },
  };
}

// ---- its doors -----------------------------------------------------------------------------------------------------

// A notebook's widget: the description and the data are traits, and a new description is a new view.
function render({ model, el }) {
  const host = document.createElement("div");
  let shown = null;
  const show = () => {
    shown?.destroy();
    shown = mount(host, model.get("description"), model.get("data"));
  };
  el.append(host);
  show();
  model.on("change:description", show);
  return () => {
    model.off("change:description", show);
    shown?.destroy();
    host.remove();
  };
}

export default { render };

// A page: each host holds its description as JSON and its data as deflated bytes in base64.
async function mountHost(host) {
  host.dataset.explorer = "shown";
  const [description, data] = host.querySelectorAll("script");
  const bytes = Uint8Array.from(atob(data.textContent.trim()), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  mount(host, JSON.parse(description.textContent), await new Response(stream).arrayBuffer());
}

for (const host of document.querySelectorAll("[data-explorer='']")) mountHost(host);
