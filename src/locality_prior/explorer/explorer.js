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
  const line = String(text).slice(0, 20000).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
  const letters = Array.from(line);
  if (letters.length <= most) return line || "–";
  const end = Math.floor(most / 4);
  return letters.slice(0, most - end - 1).join("") + "…" + letters.slice(-end).join("");
}

function number(x) {
  if (!Number.isFinite(x)) return "–";
  const size = Math.abs(x);
  let text = size && (size >= 1e5 || size < 1e-3) ? x.toExponential(1) : size >= 1000 ? x.toFixed(0) : x.toPrecision(3);
  if (!size) text = "0";
  return text.replaceAll("-", "−");
}

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

// The layers of a network that have both ends on its sheets.
const pairs = (net) => Object.keys(net.layers).filter((name) => {
  const { source, target } = net.layers[name];
  return source != null && target != null && Object.hasOwn(net.sheets, source) && Object.hasOwn(net.sheets, target);
});
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

const WIRED = ["in", "out", "kept"];
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
.explorer { --ink: light-dark(#1d1d1f, #ececee); --quiet: light-dark(#5f5f64, #a5a5ab); --line: light-dark(#d2d2d7, #48484c);
  --accent: light-dark(#0066b3, #6cb8ff); container-type: inline-size; color: var(--ink); overflow-wrap: anywhere;
  font: 14px/1.45 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", sans-serif; font-variant-numeric: tabular-nums; }
[hidden] { display: none !important; }
h3 { font-size: 16px; font-weight: 600; margin: 0 0 8px; }
.row { display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: end; min-width: 0; }
label { display: grid; font-size: 11.5px; color: var(--quiet); min-width: 0; max-width: 100%; }
select { font: inherit; font-size: 14px; color: var(--ink); background: transparent; border: 0; border-bottom: 1px solid var(--line);
  border-radius: 0; padding: 2px 0 3px; max-width: min(17em, 100%); text-overflow: ellipsis; cursor: pointer; }
option { background: light-dark(#fff, #2a2a2c); color: light-dark(#1d1d1f, #ececee); }
button { font: inherit; color: var(--accent); background: none; border: 0; padding: 4px 0; cursor: pointer; }
button:hover { text-decoration: underline; text-underline-offset: 3px; }
input[type=range] { accent-color: var(--accent); width: 100%; margin: 3px 0; height: 18px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; border-radius: 2px; }
.time { display: flex; gap: 10px; align-items: end; flex: 1 1 15em; max-width: 24em; min-width: 0; }
.time label, .share { flex: 1 1 9em; max-width: 20em; }
.time button { width: 1.4em; font-size: 15px; line-height: 1; padding-bottom: 6px; flex: none; }
.time button:hover { text-decoration: none; }
.legends { min-height: 42px; margin: 12px 0 0; }
.legend { font-size: 12px; color: var(--quiet); display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; }
.legend .what { flex: 1 1 100%; }
.bar { width: min(240px, 60%); }
.bar i { display: block; height: 9px; }
.bar span { display: flex; justify-content: space-between; line-height: 1.35; color: var(--ink); }
.key { display: inline-flex; align-items: center; gap: 5px; color: var(--ink); }
.key i { width: 11px; height: 11px; flex: none; }
.hatch { background: repeating-linear-gradient(-45deg, light-dark(#e4e4e7, #38383b) 0 3px, light-dark(#cfcfd4, #4e4e53) 3px 4px); }
.panels { display: grid; grid-template-columns: minmax(0, 1fr) minmax(0, 1fr); gap: 28px; margin-top: 10px; }
.panels.one { grid-template-columns: minmax(0, 34em); }
.name { margin: 0 0 6px; min-height: 2.9em; line-height: 1.4; }
.name b { margin-right: 6px; }
.panel .row { margin-bottom: 8px; }
.panel > .legend { min-height: 42px; margin-bottom: 8px; align-content: end; }
canvas { display: block; width: 100%; cursor: crosshair; -webkit-user-select: none; user-select: none; -webkit-tap-highlight-color: transparent; }
.status { margin: 8px 0 0; min-height: 1.45em; font-weight: 600; }
.unit { min-height: 17em; font-size: 12.5px; color: var(--quiet); }
.unit p { margin: 2px 0; }
.unit h4 { font-size: 12.5px; font-weight: 600; color: var(--ink); margin: 9px 0 3px; }
table { border-collapse: collapse; width: 100%; max-width: 30em; color: var(--ink); }
td { padding: 0 10px 0 0; line-height: 1.5; vertical-align: middle; }
th { font-weight: 400; color: var(--quiet); text-align: start; padding: 0 10px 0 0; }
.n { text-align: end; white-space: nowrap; width: 4.5em; }
.cut { color: var(--quiet); text-decoration: line-through; }
.tune td:first-child { width: 30%; max-width: 9em; white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
.tune i { display: block; height: 7px; background: light-dark(#8e8e93, #8e8e93); min-width: 1px; }
.tune .now i { background: var(--accent); }
.tune .now { font-weight: 600; }
.help, .note { font-size: 12px; color: var(--quiet); margin: 8px 0 0; }
.save { gap: 6px 22px; margin-top: 10px; }
@container (max-width: 600px) {
  .panels { grid-template-columns: minmax(0, 1fr); gap: 22px; }
  .unit { min-height: 0; } .name { min-height: 0; }
  select { font-size: 16px; }
}
@media print { button, .help { display: none; } .explorer { print-color-adjust: exact; -webkit-print-color-adjust: exact; } }
`;

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

export function mount(host, description, buffer) {
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" });
  const stop = new AbortController();
  performance.mark("explorer:start");
  // numbers of two or four bytes must lie at even places
  const data = ArrayBuffer.isView(buffer) ? (buffer.byteOffset % 4 ? { buffer: new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).slice().buffer, byteOffset: 0 } : buffer) : { buffer, byteOffset: 0 };
  const networks = description.networks.filter((net) => Object.keys(net.sheets).length);
  const frame = make("div", { className: "explorer" });
  root.replaceChildren(make("style", { textContent: STYLE }), frame);
  if (!networks.length) {
    frame.append(make("p", { textContent: "There is no sheet to show." }));
    return { destroy: () => root.replaceChildren() };
  }

  // -- state
  const first = networks.find((net) => net.name === "control") ?? networks[0];
  const start = { net: first, sheet: Object.keys(first.sheets).at(-1), value: "mean", layer: null, cls: 0, epoch: null };
  const panels = [{ ...start }, { ...start }];
  let compare = "one", link = "same", by = "weight", share = 1;
  let over = null, held = null; // {panel, unit}
  const last = new Map(); // sheet → the unit that was pointed at last
  const views = new Map(); // number of places → {zoom, x, y}

  const layouts = description.places.map(() => null);
  const sheetOf = (p) => p.net.sheets[p.sheet];
  const layoutAt = (index) => layouts[index] ??= layOut(data, description.places[index]);
  const layoutOf = (p) => layoutAt(sheetOf(p).places);
  const viewOf = (p) => {
    const index = sheetOf(p).places;
    if (!views.has(index)) views.set(index, { zoom: 1 });
    return views.get(index);
  };
  const shownPanels = () => (compare === "one" ? [0] : [0, 1]);
  const className = (c, most = 24) => plain(description.classes[c] ?? c, most);
  const classCount = (p) => sheetOf(p).means.shape[0];
  const hasClass = (p) => (p.value === "mean" || p.value === "d") && classCount(p) > 1;
  const hasEpochs = (p) => p.value === "mean" && epochIndex(sheetOf(p), null) != null && sheetOf(p).epochs.length > 1;

  // -- fields: what a panel can be set to, as [word, label, whole name]
  const option = (text) => [text, plain(text), plain(text, 300)];
  const ofName = (name) => networks.filter((net) => net.name === name);
  const seedOf = (net) => String(net.seed ?? "–");
  const layersOf = (p) => {
    if (compare === "layer") return pairs(p.net);
    const from = layersFrom(p.net, p.sheet), into = layersInto(p.net, p.sheet);
    return p.value === "in" ? from : p.value === "out" ? into : p.value === "kept" ? [...new Set([...into, ...from])] : [];
  };
  const FIELDS = {
    network: {
      label: "network", get: (p) => p.net.name,
      options: () => [...new Set(networks.map((net) => net.name))].map(option),
      set: (p, name) => { p.net = ofName(name).find((net) => net.seed === p.net.seed) ?? ofName(name)[0] ?? p.net; },
    },
    seed: {
      label: "seed", get: (p) => seedOf(p.net), options: (p) => [...new Set(ofName(p.net.name).map(seedOf))].map(option),
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
      options: (p) => (hasClass(p) ? Array.from({ length: classCount(p) }, (_, c) => [String(c), className(c, 48), plain(description.classes[c] ?? c, 300)]) : []),
    },
  };

  // A panel may ask for what its network does not have.
  function settle() {
    for (const p of panels) {
      if (compare === "layer" && pairs(p.net).length) {
        if (!pairs(p.net).includes(p.layer)) p.layer = pairs(p.net).at(-1);
        p.sheet = p.net.layers[p.layer][p === panels[0] ? "source" : "target"];
      }
      if (!Object.hasOwn(p.net.sheets, p.sheet)) p.sheet = Object.keys(p.net.sheets).at(-1);
      if (!quantities(p.net, p.sheet).some(([word]) => word === p.value)) p.value = "mean";
      if (!layersOf(p).includes(p.layer)) p.layer = layersOf(p)[0] ?? null;
      p.cls = clamp(p.cls, 0, classCount(p) - 1);
    }
    if (!shownPanels().includes(held?.panel) || held.unit >= layoutOf(panels[held.panel]).n) held = null;
    if (!shownPanels().includes(over?.panel) || over.unit >= layoutOf(panels[over.panel]).n) over = null;
  }

  const names = [...new Set(networks.map((net) => net.name))];
  const choices = Object.keys(COMPARE).filter((word) => ({
    networks: names.length > 1,
    seeds: names.some((name) => ofName(name).length > 1),
    epochs: networks.some((net) => Object.values(net.sheets).some((sheet) => sheet.epochs?.length > 1 && sheet.epoch_means)),
    layer: networks.some((net) => pairs(net).length),
    classes: networks.some((net) => Object.values(net.sheets).some((sheet) => sheet.means.shape[0] > 1)),
    values: networks.some((net) => Object.keys(net.sheets).some((name) => quantities(net, name).length > 1)),
  })[word] ?? true);

  function setCompare(word) {
    const [a] = panels, b = Object.assign(panels[1], word === "free" ? {} : a);
    if (compare === "layer") link = "same";
    compare = word;
    if (word === "networks") FIELDS.network.set(b, names.filter((name) => name !== a.net.name).at(-1));
    if (word === "seeds") {
      if (ofName(a.net.name).length < 2) a.net = b.net = networks.find((net) => ofName(net.name).length > 1);
      b.net = ofName(a.net.name).find((net) => net !== a.net) ?? a.net;
    }
    if (word === "epochs") {
      a.value = b.value = "mean";
      a.epoch = sheetOf(a).epochs?.[0] ?? null, b.epoch = null;
    }
    if (word === "layer") {
      if (!pairs(a.net).length) a.net = b.net = networks.find((net) => pairs(net).length);
      link = "wires";
    }
    if (word === "classes") b.cls = (a.cls + 1) % classCount(a);
    if (word === "values") b.value = quantities(b.net, b.sheet).find(([value]) => value !== a.value)?.[0] ?? a.value;
    settle();
  }

  // -- what a panel shows
  // The unit whose correlations or wires are shown on a sheet: the held one, the one pointed at, or the last of its sheet.
  function probe(sheet, n) {
    const focus = held ?? over;
    if (focus) {
      const p = panels[focus.panel];
      if (p.sheet === sheet && focus.unit < n) return focus.unit;
      if (layoutOf(p).n === n && !panels.some((q) => q.sheet === sheet && q !== p)) return focus.unit;
      if (layoutOf(p).n === n && p.sheet !== sheet && compare !== "layer") return focus.unit;
    }
    return last.get(sheet) < n ? last.get(sheet) : null;
  }
  const middleOf = (lay) => (lay.rows > 1 ? Math.min(Math.floor(lay.rows / 2) * lay.cols + Math.floor(lay.cols / 2), lay.n - 1) : Math.floor(lay.n / 2));
  const unitName = (net, sheet, unit) => (sheet != null && Object.hasOwn(net.sheets, sheet) ? placeOf(layoutAt(net.sheets[sheet].places), unit) : `unit ${unit}`);

  function probeAt(net, sheet, n) {
    const found = probe(sheet, n);
    if (found != null) return found;
    return sheet != null && Object.hasOwn(net.sheets, sheet) ? middleOf(layoutAt(net.sheets[sheet].places)) : Math.floor(n / 2);
  }

  // {key, text, values()}: what the values are, in words, and the values themselves
  function shownOn(p) {
    const sheet = sheetOf(p), n = layoutOf(p).n, base = [networks.indexOf(p.net), p.sheet, p.value].join("|");
    const ofClass = classCount(p) > 1 ? ` of “${className(p.cls)}”` : "";
    if (p.value === "mean") {
      const [array, r] = meansAt(data, sheet, p.epoch), e = epochIndex(sheet, p.epoch);
      const when = e == null ? "" : sheet.epochs[e] === 0 ? ", before training" : `, after epoch ${sheet.epochs[e]}`;
      return { key: `${base}|${p.cls}|${e}`, text: (ofClass ? "class mean" : "mean response") + ofClass + when, values: () => row(array, r + p.cls, n) };
    }
    if (p.value === "d") return { key: `${base}|${p.cls}`, text: `selectivity d′${ofClass}`, values: () => row(unpack(data, sheet.selectivity), p.cls, n) };
    if (p.value === "best") return { key: base, text: "preferred class", values: () => preferred(unpack(data, sheet.selectivity), n) };
    if (p.value === "r") {
      const unit = probeAt(p.net, p.sheet, n);
      return { key: `${base}|${unit}`, text: `correlation with the unit at ${unitName(p.net, p.sheet, unit)}`, values: () => correlation(unpack(data, sheet.factors), n, unit) };
    }
    const layer = p.net.layers[p.layer], name = plain(p.layer, 24);
    if (p.value === "kept") {
      const leaving = layer.target !== p.sheet;
      return { key: `${base}|${p.layer}|${share}`, text: `wires of ${name} kept ${leaving ? "out of" : "into"} each unit`, values: () => keptWires(data, layer, leaving, share) };
    }
    const into = p.value === "in", [end, count] = into ? [layer.target, layer.units[1]] : [layer.source, layer.units[0]];
    const unit = probeAt(p.net, end, count), where = unitName(p.net, end, unit);
    const text = `wires ${into ? "into" : "out of"} the unit at ${where}${end == null ? "" : ` of ${plain(end, 24)}`}`;
    return {
      key: `${base}|${p.layer}|${by}|${unit}|${by === "kept" ? share : ""}`, text,
      values: () => {
        const out = new Float32Array(n).fill(NaN);
        for (const one of into ? wiresInto(data, layer, unit) : wiresFrom(data, layer, unit)) {
          const i = into ? one.source : one.target;
          if (i < n) out[i] = by === "weight" ? one.weight : by === "length" ? one.length : one.rank <= share ? 0 : 1;
        }
        return out;
      },
    };
  }

  // What panels must have in common to share a scale.
  const scaleKey = (p) => (p.value === "in" || p.value === "out" ? `wires|${by}` : p.value);

  // One scale for all panels that show the same: over all their classes and epochs, so that it never jumps.
  function scaleOf(p) {
    const same = shownPanels().map((k) => panels[k]).filter((q) => scaleKey(q) === scaleKey(p));
    const over = (pick) => union(same.map(pick));
    const means = (q) => extent(meansAt(data, sheetOf(q), null)[0]);
    const listed = (q) => q.net.layers[q.layer], most = (q) => listed(q).origin.shape[1];
    const classes = Math.max(...same.map(classCount)) > 1;
    const epochs = same.some((q) => epochIndex(sheetOf(q), null) != null);
    const all = classes && epochs ? "all classes and epochs" : classes ? "all classes" : epochs ? "all epochs" : "";
    const scope = (text) => {
      const parts = [same.length > 1 && "both maps", text].filter(Boolean);
      return parts.length ? `; one scale for ${parts.join(", ")}` : "";
    };
    const listedNone = () => (p.value === "in" ? `not among the ${several(most(p), "strongest wire")} into it` : "no wire from it among the strongest");
    switch (scaleKey(p)) {
      case "mean": return { ...ramp(over(means)), what: (classes ? "class mean" : "mean response") + scope(all), empty: "no value" };
      case "d": return { ...ramp(over((q) => extent(unpack(data, sheetOf(q).selectivity))), true), what: `selectivity d′${scope(classes ? "all classes" : "")}`, empty: "no value" };
      case "best": return { colours: TABLES.ten, names: Array.from({ length: Math.max(...same.map(classCount)) }, (_, c) => className(c)), what: "preferred class: the one with the largest d′", empty: "none" };
      case "r": return { ...ramp([-1, 1], true), what: "correlation with the unit, over items", empty: "no value" };
      case "kept": return { ...ramp([0, Math.max(...same.map(most))]), what: `number of wires kept, of those shown: the ${most(p)} strongest into each unit`, empty: "no value" };
      case "wires|weight": return { ...ramp(over((q) => [0, extent(unpack(data, listed(q).weight))[1]])), what: `strength |V| of a wire${scope("all units")}`, empty: listedNone() };
      case "wires|length": return { ...ramp(over((q) => [0, extent(unpack(data, listed(q).distance))[1]])), what: `length of a wire, in spacings of the source${scope("all units")}`, empty: listedNone() };
      default: return { colours: TABLES.kept, names: ["kept", "cut"], what: `wires if ${percent(share)} of the layer’s are kept, the strongest`, empty: listedNone() };
    }
  }
  const percent = (x) => `${x >= 0.1 || x === 0 ? Math.round(100 * x) : number(100 * x)} %`;

  const titleOf = (p, most = 40) => {
    const seed = p.net.seed == null ? "" : `, seed ${plain(p.net.seed, 16)}`;
    return `${plain(p.net.name, most)}${seed}: ${plain(p.sheet, most)}, ${shownOn(p).text}`;
  };

  // The units of panel k that go with the one in focus, as [unit, outline's weight].
  function marksOn(k) {
    const marks = [], lay = layoutOf(panels[k]);
    const focus = held ?? over;
    if (focus && focus.panel !== k) for (const [i, weight] of linked(focus, k)) marks.push([i, weight]);
    if (held?.panel === k) marks.push([held.unit, 2.5]);
    if (over?.panel === k && over.unit !== held?.unit) marks.push([over.unit, 1.2]);
    return marks.filter(([i]) => i < lay.n);
  }

  function linked(focus, k) {
    const here = panels[focus.panel], there = panels[k];
    if (link === "same") return layoutOf(here).n === layoutOf(there).n ? [[focus.unit, 1.8]] : [];
    const found = new Map(), add = (unit, one) => found.set(unit, one.rank <= share ? 1.4 : 0.5);
    for (const layer of Object.values(here.net.layers)) {
      if (layer.target === here.sheet && layer.source === there.sheet) for (const one of wiresInto(data, layer, focus.unit)) add(one.source, one);
      if (layer.source === here.sheet && layer.target === there.sheet) for (const one of wiresFrom(data, layer, focus.unit)) add(one.target, one);
    }
    return [...found];
  }

  // -- controls
  const fields = []; // {name, scope, label, select}
  function fieldFor(name, scope) {
    const select = make("select"), label = make("label", {}, FIELDS[name].label, select);
    if (scope !== "both") select.setAttribute("aria-label", `${FIELDS[name].label} of map ${"AB"[scope]}`);
    select.addEventListener("change", () => {
      for (const p of scope === "both" ? panels : [panels[scope]]) FIELDS[name].set(p, select.value);
      settle();
      changed();
    });
    fields.push({ name, scope, label, select });
    return label;
  }
  function fill(select, options, value) {
    const signature = JSON.stringify(options);
    if (select.dataset.options !== signature) {
      select.dataset.options = signature;
      select.replaceChildren(...options.map(([word, text, whole]) => make("option", { value: word, textContent: text, title: whole && whole !== text ? whole : "" })));
    }
    select.value = value;
  }
  function choice(label, options, value, set) {
    const select = make("select"), holder = make("label", {}, label, select);
    select.addEventListener("change", () => { set(select.value); settle(); changed(); });
    return { holder, update: (shown) => { holder.hidden = !shown; fill(select, options, value()); } };
  }

  // Time: a slider over the kept epochs of the panels that it moves.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  function timeFor(scope) {
    const slider = make("input", { type: "range", min: 0, step: 1 }), text = make("span");
    const button = make("button", { type: "button" }), holder = make("div", { className: "time" }, button, make("label", {}, text, slider));
    const of = scope === "both" ? "" : ` of map ${"AB"[scope]}`;
    slider.setAttribute("aria-label", `epoch${of}`);
    const moved = () => (scope === "both" ? shownPanels() : [scope]).map((k) => panels[k]).filter(hasEpochs);
    const epochs = () => [...new Set(moved().flatMap((p) => sheetOf(p).epochs))].sort((a, b) => a - b);
    const at = () => { const all = epochs(), now = moved()[0]?.epoch; return now == null ? all.length - 1 : Math.max(all.findLastIndex((e) => e <= now), 0); };
    const go = (i) => { const e = epochs()[i]; for (const p of scope === "both" ? panels : [panels[scope]]) p.epoch = e; changed(); };
    let timer = 0;
    const pause = () => { clearInterval(timer); timer = 0; };
    const next = () => { const i = at(), end = epochs().length - 1; if (i >= end) { pause(); changed(); } else go(i + 1); };
    slider.addEventListener("input", () => { pause(); go(Number(slider.value)); });
    button.addEventListener("click", () => {
      if (timer) { pause(); changed(); return; }
      const end = at() >= epochs().length - 1;
      if (!still.matches) timer = setInterval(next, 333); // with reduced motion, a press is one step
      if (end) go(0); else next();
    });
    stop.signal.addEventListener("abort", pause);
    return {
      holder,
      update(shown) {
        const all = epochs();
        holder.hidden = !shown || all.length < 2;
        if (holder.hidden) { pause(); return; }
        const i = at(), words = all[i] === 0 ? "before training" : `after epoch ${all[i]}`;
        slider.max = all.length - 1, slider.value = i;
        slider.setAttribute("aria-valuetext", words);
        text.textContent = `${words} (of ${all.at(-1)})`;
        button.textContent = timer ? "❚❚" : "▶";
        button.setAttribute("aria-label", `${timer ? "Pause" : still.matches ? "Next epoch" : "Play the epochs"}${of}`);
      },
    };
  }

  const comparing = choice("compare", choices.map((word) => [word, COMPARE[word][0]]), () => compare, setCompare);
  const linking = choice("link", [["same", "same unit"], ["wires", "its wires"]], () => link, (word) => { link = word; });
  const byWhat = choice("wires by", Object.entries(BY), () => by, (word) => { by = word; });
  const times = ["both", 0, 1].map((scope) => [scope, timeFor(scope)]);
  const shareSlider = make("input", { type: "range", min: -3, max: 0, step: 0.05, value: 0 }), shareText = make("span");
  const shareHolder = make("label", { className: "share" }, shareText, shareSlider);
  shareSlider.setAttribute("aria-label", "strongest share of wires kept");
  shareSlider.addEventListener("input", () => { share = 10 ** Number(shareSlider.value); changed(); });

  const title = named(make("h3"), description.title || "", 120);
  title.hidden = !description.title;
  const top = make("div", { className: "row" }, comparing.holder, ...Object.keys(FIELDS).map((name) => fieldFor(name, "both")), byWhat.holder, linking.holder, times[0][1].holder, shareHolder);
  const sharedLegend = make("div", { className: "legend" }), legends = make("div", { className: "legends" }, sharedLegend);
  const parts = [0, 1].map((k) => {
    const heading = make("p", { className: "name" }, make("b", { textContent: "AB"[k] }), make("span"));
    const own = make("div", { className: "row" }, ...Object.keys(FIELDS).map((name) => fieldFor(name, k)), times[k + 1][1].holder);
    const canvas = make("canvas", { tabIndex: 0, role: "application", "aria-roledescription": "map of units" });
    const legend = make("div", { className: "legend" }), status = make("p", { className: "status", role: "status", "aria-live": "polite" });
    const unit = make("div", { className: "unit" });
    const holder = make("section", { className: "panel", "aria-label": `map ${"AB"[k]}` }, heading, own, legend, canvas, status, unit);
    return { holder, heading: heading.lastChild, own, canvas, legend, status, unit, w: 0, h: 0, key: null, base: new OffscreenCanvas(1, 1) };
  });
  const panelRow = make("div", { className: "panels" }, ...parts.map((part) => part.holder));
  const png = make("button", { type: "button", textContent: "Save picture (PNG)" }), csv = make("button", { type: "button", textContent: "Save numbers (CSV)" });
  png.addEventListener("click", savePicture);
  csv.addEventListener("click", saveNumbers);
  const help = make("p", { className: "help", textContent: "Point at a unit, or move with the arrow keys; click or Enter holds it, Escape lets it go. Zoom with + and − (0: the whole sheet), by pinching, or with the wheel once the map is selected; drag or Shift with arrows moves the sheet." });
  const note = named(make("p", { className: "note" }), description.note || "", 600);
  note.hidden = !description.note;
  frame.append(title, top, legends, panelRow, help, make("div", { className: "row save" }, png, csv), note);

  // -- updates: settings change the controls, everything else only the pictures, once for each frame
  let scheduled = 0, stale = true;
  function changed() { stale = true; redraw(); }
  function redraw() { scheduled ||= requestAnimationFrame(draw); }

  function updateControls() {
    const own = COMPARE[compare][1];
    for (const { name, scope, label, select } of fields) {
      const p = panels[scope === "both" ? 0 : scope], options = FIELDS[name].options(p);
      const mine = own.includes(name) ? scope !== "both" : scope === "both";
      label.hidden = !mine || options.length < 2;
      if (!label.hidden) fill(select, options, FIELDS[name].get(p));
    }
    const shown = shownPanels().map((k) => panels[k]), wired = (word) => shown.some((p) => p.value === word);
    for (const [scope, time] of times) time.update((scope === "both") !== own.includes("epoch") && (scope === "both" || hasEpochs(panels[scope])));
    comparing.update(choices.length > 1);
    linking.update(shown.length > 1 && shown.some((p) => Object.keys(p.net.layers).length));
    byWhat.update(wired("in") || wired("out"));
    shareHolder.hidden = !(wired("kept") || ((wired("in") || wired("out")) && by === "kept") || (link === "wires" && shown.length > 1 && share < 1));
    shareText.textContent = `strongest share of wires kept: ${percent(share)}`;
    shareSlider.setAttribute("aria-valuetext", percent(share));
    panelRow.classList.toggle("one", shown.length === 1);
    parts[1].holder.hidden = shown.length === 1;
    for (const part of parts) part.own.hidden = [...part.own.children].every((child) => child.hidden);
    help.hidden = false;
  }

  function updateLegend(element, scale, holes) {
    const signature = JSON.stringify([scale.what, scale.low, scale.high, scale.names, scale.single, scale.none, holes]);
    if (element.dataset.shown === signature) return;
    element.dataset.shown = signature;
    const key = (style, text, className = "") => make("span", { className: "key" }, Object.assign(make("i", { className }), { style }), text);
    const parts = [make("span", { className: "what", textContent: scale.what })];
    if (scale.names) scale.names.forEach((name, c) => parts.push(key(`background:${css(scale.colours[c])}`, name)));
    else if (scale.single != null) parts.push(key(`background:${css(colour(scale, scale.single))}`, number(scale.single)));
    else if (!scale.none) {
      const stops = Array.from({ length: 33 }, (_, i) => css(scale.colours[Math.round(i * 255 / 32)]));
      const ticks = scale.low < 0 ? [scale.low, 0, scale.high] : [scale.low, (scale.low + scale.high) / 2, scale.high];
      parts.push(make("span", { className: "bar" }, make("i", { style: `background:linear-gradient(90deg,${stops})` }), make("span", {}, ...ticks.map((t) => make("span", { textContent: number(t) })))));
    }
    if (holes) parts.push(key("", scale.empty, "hatch"));
    element.replaceChildren(...parts);
  }

  const isDark = () => {
    const [r, g, b] = getComputedStyle(frame).color.match(/[\d.]+/g).map(Number);
    return 0.3 * r + 0.6 * g + 0.1 * b > 128;
  };

  function resize() {
    const ratio = Math.min(devicePixelRatio || 1, 3), shown = shownPanels();
    let tall = 0;
    for (const k of shown) {
      const [x0, y0, x1, y1] = layoutOf(panels[k]).box, wide = parts[k].holder.clientWidth;
      tall = Math.max(tall, wide * clamp((y1 - y0) / (x1 - x0), 0.12, 1));
    }
    for (const k of shown) {
      const part = parts[k], w = Math.round(part.holder.clientWidth * ratio), h = Math.round(tall * ratio);
      if (!w || (part.w === w && part.h === h && part.ratio === ratio)) continue;
      Object.assign(part, { w, h, ratio });
      part.canvas.style.height = `${tall}px`;
      part.canvas.width = part.base.width = w;
      part.canvas.height = part.base.height = h;
    }
  }

  // The picture of panel k: colours, and how they were reached.
  function pictureOf(k) {
    const part = parts[k], p = panels[k], shown = shownOn(p), scale = scaleOf(p), lay = layoutOf(p);
    if (part.shown?.key !== shown.key) part.shown = { key: shown.key, values: shown.values() };
    const { values } = part.shown, key = JSON.stringify([shown.key, scale.low, scale.high, scale.names?.length]);
    if (part.picture?.key !== key) {
      part.holes = values.some((v) => v !== v);
      part.picture = { key };
      if (lay.kind === "cells") part.picture.tiles = textures(lay, values, scale);
      else part.picture.colours = Uint32Array.from(values, (v) => colour(scale, v));
    }
    return { values, scale, lay, picture: part.picture, title: titleOf(p) };
  }

  function draw() {
    scheduled = 0;
    if (stop.signal.aborted) return;
    if (stale) updateControls();
    resize();
    const dark = isDark(), shown = shownPanels();
    const states = shown.map(pictureOf);
    const shared = shown.length > 1 && scaleKey(panels[0]) === scaleKey(panels[1]);
    legends.hidden = !shared && shown.length > 1;
    if (!legends.hidden) updateLegend(sharedLegend, states[0].scale, shown.some((k) => parts[k].holes));
    for (const k of shown) {
      const part = parts[k], { lay, scale, picture, title } = states[k], { w, h, ratio } = part;
      part.legend.hidden = !legends.hidden;
      if (legends.hidden) updateLegend(part.legend, scale, part.holes);
      named(part.heading, title, 160);
      part.canvas.setAttribute("aria-label", plain(title, 200));
      updateUnit(k, states[k]);
      if (!w) continue;
      const p = projection(lay, viewOf(panels[k]), w, h), key = `${picture.key}|${w}|${h}|${p.scale}|${p.dx}|${p.dy}|${dark}`;
      const context = part.canvas.getContext("2d");
      if (lay.kind === "cells") drawSheet(context, lay, p, picture, dark, ratio);
      else {
        if (part.key !== key) drawSheet(part.base.getContext("2d"), lay, p, picture, dark, ratio);
        context.clearRect(0, 0, w, h);
        context.drawImage(part.base, 0, 0);
      }
      part.key = key;
      for (const [unit, weight] of marksOn(k)) drawMark(context, lay, p, unit, weight, ratio);
      part.canvas.style.touchAction = viewOf(panels[k]).zoom > 1 ? "none" : "pan-y";
    }
    if (stale) performance.mark("explorer:drawn");
    stale = false;
  }

  // -- the unit in focus
  function valueText(scale, value) {
    return scale.names ? scale.names[value] ?? scale.empty : Number.isFinite(value) ? number(value) : scale.empty;
  }

  function focusOn(k) {
    const focus = over ?? held;
    if (!focus) return null;
    if (focus.panel === k) return focus.unit;
    return link === "same" && layoutOf(panels[k]).n === layoutOf(panels[focus.panel]).n ? focus.unit : null;
  }

  function updateUnit(k, { values, scale, lay }) {
    const part = parts[k], p = panels[k], unit = focusOn(k), focus = over ?? held;
    const state = JSON.stringify([unit, focus, held, part.picture.key, p.epoch, share, link]);
    if (part.told === state) return;
    part.told = state;
    if (unit == null) {
      const wired = focus && link === "wires" ? linked(focus, k).length : 0;
      part.status.textContent = wired ? `${several(wired, "unit")} wired to it` : "";
      part.unit.replaceChildren();
      return;
    }
    const isHeld = held?.panel === k && held.unit === unit;
    part.status.textContent = `${placeOf(lay, unit)}: ${valueText(scale, values[unit])}${isHeld ? " (held)" : ""}`;
    const around = neighbours(lay, unit).map((i) => values[i]).filter(Number.isFinite);
    const rows = [];
    const line = `unit ${unit.toLocaleString("en")}`;
    const mean = around.reduce((a, b) => a + b, 0) / around.length;
    const alike = around.filter((v) => v === values[unit]).length;
    rows.push(make("p", { textContent: !around.length ? line : scale.names ? `${line}; ${alike} of ${several(around.length, "neighbour")} alike` : `${line}; mean of ${several(around.length, "neighbour")} ${number(mean)}` }));
    const tune = tuning(p, unit);
    if (tune) rows.push(make("h4", { textContent: tune.title }), tune.table);
    for (const name of layersInto(p.net, p.sheet)) rows.push(...wireTable(p, name, unit, true));
    for (const name of layersFrom(p.net, p.sheet)) rows.push(...wireTable(p, name, unit, false));
    part.unit.replaceChildren(...rows);
  }

  // A unit's class means as bars; of many classes, those with the largest.
  function tuning(p, unit) {
    const classes = classCount(p), n = layoutOf(p).n;
    if (classes < 2) return null;
    const [array, r] = meansAt(data, sheetOf(p), p.epoch);
    let all = Array.from({ length: classes }, (_, c) => [c, array.at((r + c) * n + unit)]);
    if (classes > 12) all = all.sort((a, b) => (b[1] === b[1] ? b[1] : -Infinity) - (a[1] === a[1] ? a[1] : -Infinity)).slice(0, 10);
    const { low, high } = ramp(extent(array));
    const zero = 100 * -low / (high - low), bars = all.map(([c, value]) => {
      const length = 100 * Math.abs(value) / (high - low), from = value < 0 ? zero - length : zero;
      const bar = make("i", { style: Number.isFinite(value) ? `width:${length}%;margin-left:${from}%` : "visibility:hidden" });
      const name = named(make("td"), description.classes[c] ?? c, 24);
      return make("tr", { className: hasClass(p) && c === p.cls ? "now" : "" }, name, make("td", {}, bar), make("td", { className: "n", textContent: number(value) }));
    });
    return { title: classes > 12 ? `Largest of its ${classes} class means` : "Class means", table: make("table", { className: "tune" }, ...bars) };
  }

  function wireTable(p, name, unit, into) {
    const layer = p.net.layers[name], wires = into ? wiresInto(data, layer, unit) : wiresFrom(data, layer, unit);
    const end = into ? layer.source : layer.target;
    const text = `${into ? "Strongest wires in" : "Strongest wires out"}: ${plain(name, 24)}`;
    if (!wires.length) return into ? [] : [make("h4", { textContent: text }), make("p", { textContent: "none among those shown" })];
    const rows = wires.slice(0, 5).map((one) => make("tr", { className: one.rank <= share ? "" : "cut" },
      make("td", { textContent: unitName(p.net, end, into ? one.source : one.target) }),
      make("td", { className: "n", textContent: number(one.weight) }), make("td", { className: "n", textContent: number(one.length) })));
    const head = make("tr", {}, make("th", { textContent: into ? "from" : "to" }), make("th", { className: "n", textContent: "|V|" }), make("th", { className: "n", textContent: "length" }));
    return [make("h4", { textContent: text }), make("table", {}, head, ...rows)];
  }

  // -- pointer and keys
  function point(k, unit) {
    const same = unit == null ? over == null : over?.panel === k && over.unit === unit;
    if (same) return;
    over = unit == null ? null : { panel: k, unit };
    if (over) last.set(panels[k].sheet, unit);
    redraw();
  }
  function hold(k, unit) {
    held = unit == null || (held?.panel === k && held.unit === unit) ? null : { panel: k, unit };
    redraw();
  }
  function zoomBy(k, factor, x, y) {
    const part = parts[k], lay = layoutOf(panels[k]), view = viewOf(panels[k]);
    const before = projection(lay, view, part.w, part.h), [x0, , x1] = lay.box;
    const most = Math.max((x1 - x0) / (8 * lay.radius), 1);
    view.zoom = clamp(view.zoom * factor, 1, most);
    const after = before.scale && projection(lay, view, part.w, part.h).scale;
    // what is under the pointer stays there
    view.x = (x - before.dx) / before.scale + (part.w / 2 - x) / after;
    view.y = (y - before.dy) / before.scale + (part.h / 2 - y) / after;
    redraw();
  }
  function panBy(k, dx, dy) {
    const part = parts[k], view = viewOf(panels[k]), { scale } = projection(layoutOf(panels[k]), view, part.w, part.h);
    view.x -= dx / scale, view.y -= dy / scale;
    redraw();
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  for (const k of [0, 1]) {
    const { canvas } = parts[k], touches = new Map();
    let down = null, dragged = false, spread = 0;
    const pixel = (event) => {
      const box = canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * parts[k].w / box.width, (event.clientY - box.top) * parts[k].h / box.height];
    };
    const unitUnder = (event) => {
      const [x, y] = pixel(event), lay = layoutOf(panels[k]), p = projection(lay, viewOf(panels[k]), parts[k].w, parts[k].h);
      return unitAt(lay, (x - p.dx) / p.scale, (y - p.dy) / p.scale, 6 * parts[k].ratio / p.scale);
    };
    canvas.addEventListener("pointerdown", (event) => {
      if (event.button) return;
      touches.set(event.pointerId, pixel(event));
      down = pixel(event), dragged = touches.size > 1, spread = 0;
      canvas.setPointerCapture(event.pointerId);
    });
    canvas.addEventListener("pointermove", (event) => {
      const now = pixel(event), before = touches.get(event.pointerId);
      if (!before) { point(k, unitUnder(event)); return; }
      touches.set(event.pointerId, now);
      if (touches.size === 2) {
        const [a, b] = [...touches.values()], apart = Math.hypot(a[0] - b[0], a[1] - b[1]);
        if (spread) zoomBy(k, apart / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        spread = apart;
      } else {
        if (Math.hypot(now[0] - down[0], now[1] - down[1]) > 4 * parts[k].ratio) dragged = true;
        if (dragged) panBy(k, now[0] - before[0], now[1] - before[1]);
      }
    });
    const release = (event) => {
      if (!touches.delete(event.pointerId)) return;
      spread = 0;
      if (event.type === "pointerup" && !dragged) {
        const unit = unitUnder(event);
        point(k, unit);
        hold(k, unit);
      }
    };
    canvas.addEventListener("pointerup", release);
    canvas.addEventListener("pointercancel", release);
    canvas.addEventListener("pointerleave", () => { if (!touches.size) point(k, null); });
    canvas.addEventListener("wheel", (event) => {
      const out = event.deltaY > 0 && viewOf(panels[k]).zoom <= 1;
      if (out || !(event.ctrlKey || event.metaKey || root.activeElement === canvas)) return; // the page scrolls
      event.preventDefault();
      const lines = event.deltaMode ? 30 : 1;
      zoomBy(k, Math.exp(-clamp(event.deltaY * lines, -100, 100) / (event.ctrlKey ? 80 : 250)), ...pixel(event));
    }, { passive: false });
    canvas.addEventListener("keydown", (event) => {
      const lay = layoutOf(panels[k]), arrow = ARROWS[event.key];
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const here = over?.panel === k ? over.unit : held?.panel === k ? held.unit : last.get(panels[k].sheet);
      if (arrow && event.shiftKey) panBy(k, -arrow[0] * parts[k].w / 8, -arrow[1] * parts[k].h / 8);
      else if (arrow) {
        const known = here != null && here < lay.n, unit = known ? step(lay, here, ...arrow) : middleOf(lay);
        point(k, unit);
        follow(k, unit);
      } else if (event.key === "Enter" || event.key === " ") {
        const unit = here != null && here < lay.n ? here : middleOf(lay);
        point(k, unit);
        hold(k, unit);
      } else if (event.key === "Escape") {
        if (held) hold(k, null); else point(k, null);
      } else if (event.key === "+" || event.key === "=") zoomBy(k, 1.5, parts[k].w / 2, parts[k].h / 2);
      else if (event.key === "-") zoomBy(k, 1 / 1.5, parts[k].w / 2, parts[k].h / 2);
      else if (event.key === "0") { Object.assign(viewOf(panels[k]), { zoom: 1, x: null, y: null }); redraw(); }
      else return;
      event.preventDefault();
    });
  }
  // Keep the unit that the keys moved to inside the canvas.
  function follow(k, unit) {
    const { w, h } = parts[k], lay = layoutOf(panels[k]), view = viewOf(panels[k]), p = projection(lay, view, w, h), [x, y] = lay.at(unit);
    const px = x * p.scale + p.dx, py = y * p.scale + p.dy, edge = Math.min(w, h) / 10;
    if (view.zoom > 1) panBy(k, clamp(px, edge, w - edge) - px, clamp(py, edge, h - edge) - py);
  }

  // -- saving
  function save(blob, ending) {
    const url = URL.createObjectURL(blob), anchor = make("a", { href: url, download: `${slug(description.title || "maps")}.${ending}` });
    frame.append(anchor);
    anchor.click();
    anchor.remove();
    setTimeout(() => URL.revokeObjectURL(url), 10000);
  }

  function saveNumbers() {
    const states = shownPanels().map(pictureOf), lays = states.map((state) => state.lay);
    const together = lays.every((lay) => lay === lays[0]), places = together ? [lays[0]] : lays;
    const axes = (lay, k) => (lay.rows ? ["column", "row"] : ["x", "y"]).map((name) => (together ? name : `${name} ${"AB"[k]}`));
    const titles = states.map((state, k) => (states.length > 1 ? `${"AB"[k]}: ` : "") + plain(titleOf(panels[k], 200), 500));
    const lines = [["unit", ...places.flatMap(axes), ...titles]];
    for (let i = 0; i < Math.max(...lays.map((lay) => lay.n)); i++) {
      const at = places.flatMap((lay) => (i < lay.n ? numbersOf(lay, i) : [NaN, NaN]));
      lines.push([i, ...at, ...states.map(({ values, scale, lay }) => (i >= lay.n ? NaN : scale.names ? scale.names[values[i]] ?? "" : rounded(values[i])))]);
    }
    save(new Blob([lines.map((line) => line.map(field).join(",")).join("\r\n"), "\r\n"], { type: "text/csv" }), "csv");
  }
  const rounded = (x) => Number(x.toPrecision(6)); // as many digits as a 32-bit number has

  // Both maps with their titles and legends on one canvas, at twice the size.
  function savePicture() {
    const ratio = 2, shown = shownPanels(), states = shown.map(pictureOf), dark = isDark();
    const w = 460 * ratio, gap = 28 * ratio, edge = 16 * ratio, line = 18 * ratio;
    const aspects = states.map(({ lay: { box: [x0, y0, x1, y1] } }) => clamp((y1 - y0) / (x1 - x0), 0.12, 1)), h = Math.round(w * Math.max(...aspects));
    const ink = dark ? "#ececee" : "#1d1d1f", canvas = make("canvas");
    const shared = legends.hidden ? shown.length : 1, top = edge + 3 * line, legendTop = top + h + line;
    const context = canvas.getContext("2d");
    const font = (weight = 400, size = 13) => { context.font = `${weight} ${size * ratio}px system-ui, sans-serif`; };
    const heights = [...Array(shared).keys()].map((k) => drawLegend(null, states[k].scale, 0, 0, shared > 1 ? w : states.length * w, k));
    canvas.width = 2 * edge + states.length * w + (states.length - 1) * gap;
    canvas.height = legendTop + Math.max(...heights) + edge;
    context.fillStyle = dark ? "#1c1c1e" : "#fff";
    context.fillRect(0, 0, canvas.width, canvas.height);
    context.textBaseline = "top";
    states.forEach(({ lay, picture, title }, k) => {
      const x = edge + k * (w + gap);
      context.fillStyle = ink;
      font(600);
      if (states.length > 1) context.fillText("AB"[k], x, edge);
      const indent = states.length > 1 ? 20 * ratio : 0;
      font();
      lines(title, w - indent, 2).forEach((text, r) => context.fillText(text, x + indent, edge + r * line));
      const base = new OffscreenCanvas(w, h), p = projection(lay, { ...viewOf(panels[k]) }, w, h), inner = base.getContext("2d");
      drawSheet(inner, lay, p, picture, dark, ratio);
      for (const [unit, weight] of marksOn(k)) drawMark(inner, lay, p, unit, weight, ratio);
      context.drawImage(base, x, top);
      if (k < shared) drawLegend(context, states[k].scale, x, legendTop, shared > 1 ? w : states.length * w, k);
    });
    canvas.toBlob((blob) => blob && save(blob, "png"));

    function lines(text, width, most) {
      const found = [""];
      for (const word of text.split(" ")) {
        const longer = found.at(-1) ? `${found.at(-1)} ${word}` : word;
        if (context.measureText(longer).width <= width || !found.at(-1)) found[found.length - 1] = longer;
        else found.push(word);
      }
      const shown = found.slice(0, most);
      return shown.map((one, r) => {
        let text = r === most - 1 && found.length > most ? `${one} …` : one;
        while (context.measureText(text).width > width && text.length > 2) text = `${text.slice(0, -3)}…`;
        return text;
      });
    }

    // Draws a legend and returns its height; without `to` it only measures.
    function drawLegend(to, scale, x, y, width, k) {
      font(400, 12);
      const text = (words, at, top, align = "left") => { if (to) to.fillStyle = ink, to.textAlign = align, to.fillText(words, at, top), to.textAlign = "left"; };
      const told = lines(scale.what, width, 2);
      told.forEach((one, r) => text(one, x, y + r * line));
      let across = x, down = y + told.length * line + 4 * ratio;
      const key = (fill, words) => {
        const size = 11 * ratio, long = size + 6 * ratio + context.measureText(words).width;
        if (across > x && across + long > x + width) across = x, down += line;
        if (to) to.fillStyle = fill, to.fillRect(across, down, size, size);
        text(words, across + size + 6 * ratio, down - ratio);
        across += long + 14 * ratio;
      };
      if (scale.names) scale.names.forEach((name, c) => key(css(scale.colours[c]), name));
      else if (scale.single != null) key(css(colour(scale, scale.single)), number(scale.single));
      else if (!scale.none) {
        const long = 240 * ratio, ticks = scale.low < 0 ? [scale.low, 0, scale.high] : [scale.low, (scale.low + scale.high) / 2, scale.high];
        if (to) for (let i = 0; i < long; i++) to.fillStyle = css(scale.colours[Math.floor(i * 256 / long)]), to.fillRect(x + i, down, 1, 10 * ratio);
        ticks.forEach((t, i) => text(number(t), x + i * long / 2, down + 13 * ratio, ["left", "center", "right"][i]));
        across += long + 20 * ratio;
        down += 0;
      }
      if (shown.some((j) => (shared === 1 || j === k) && parts[j].holes)) key(hatch(dark, ratio), scale.empty);
      return down - y + 2 * line;
    }
  }

  // -- life
  setCompare(choices[0]);
  const observer = new ResizeObserver(redraw);
  observer.observe(frame);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", changed, { signal: stop.signal });
  addEventListener("beforeprint", draw, { signal: stop.signal });
  if (document.body?.dataset.jpThemeLight) frame.style.colorScheme = document.body.dataset.jpThemeLight === "true" ? "light" : "dark";
  draw();
  return {
    destroy() {
      stop.abort();
      observer.disconnect();
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
