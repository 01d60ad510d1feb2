// Maps of spatially embedded networks as two linked sheets: one module for pages and for notebooks, with no library.
//
// Everything above "the explorer" is functions of plain values; only the explorer holds state.

// ---- numbers ----

const { abs, floor, hypot, max, min, round, sqrt } = Math;
const CODES = { u1: Uint8Array, u2: Uint16Array, u4: Uint32Array };

// A description with its packed arrays opened: value = low + step · code, and the type's largest code is NaN.
function opened(described, data) {
  if (Array.isArray(described)) return described.map((one) => opened(one, data));
  if (described === null || typeof described !== "object") return described;
  const { at: from, shape, type, low, step } = described, Type = CODES[type];
  if (!Type) return Object.fromEntries(Object.entries(described).map(([name, one]) => [name, opened(one, data)]));
  const size = shape.reduce((a, b) => a * b, 1), none = 2 ** (8 * Type.BYTES_PER_ELEMENT) - 1;
  const codes = new Type(data, from, size);
  return { codes, none, size, shape, low, step, at: (i) => (codes[i] === none ? NaN : low + step * codes[i]) };
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
    for (const code of array.codes) if (code !== array.none) low = min(low, code), high = max(high, code);
    array.extent = low > high ? [low, high] : [array.low + array.step * low, array.low + array.step * high];
  }
  return array.extent;
}

const union = (extents) => [min(...extents.map((e) => e[0])), max(...extents.map((e) => e[1]))];
const range = (n) => [...Array(n).keys()];
const clamp = (x, low, high) => min(max(x, low), high);

// Entries sorted by their group, of n: where each group starts, and the entries. What is in no group is left out.
function grouped(groups, n) {
  const start = new Uint32Array(n + 1), entries = new Uint32Array(groups.length);
  for (const g of groups) if (g < n) start[g + 1]++;
  for (let g = 0; g < n; g++) start[g + 1] += start[g];
  const next = start.slice();
  for (let e = 0; e < groups.length; e++) if (groups[e] < n) entries[next[groups[e]]++] = e;
  return [start, entries];
}

// ---- text ----

// A name on one line without invisible characters; the middle of a long one is left out.
function plain(text, most = 48) {
  const line = String(text ?? "").slice(0, 20000).replace(/[\p{Cc}\p{Cf}\p{Cs}\p{Zl}\p{Zp}\s]+/gu, " ").trim();
  const letters = [...line];
  if (letters.length <= most) return line || "–";
  const end = floor(most / 4);
  return [...letters.slice(0, most - end - 1), "…", ...letters.slice(-end)].join("");
}

// A number with three digits.
// Three digits, or as many as a number has that was packed in such steps.
function number(x, step = 0) {
  if (!isFinite(x)) return "–";
  const size = abs(x);
  if (size < step / 2 || !size) return "0";
  const digits = step ? clamp(floor(Math.log10(size / step)) + 1, 1, 3) : 3;
  if (size >= 1e5 || size < 1e-3) return x.toExponential(digits - 1).replaceAll("-", "−");
  const decimals = max(digits - 1 - floor(Math.log10(x.toPrecision(digits).replace("-", ""))), 0); // of 9.999, as of 10
  return x.toFixed(decimals).replaceAll("-", "−");
}

const percent = (x) => `${Number((100 * x).toPrecision(2))} %`;
const epochText = (epoch) => (epoch === 0 ? "before training" : `after epoch ${epoch}`);
const several = (n, one) => `${n} ${one}${n === 1 ? "" : "s"}`;

// One value of a CSV file (RFC 4180). A text that a spreadsheet would compute is made a text.
function quoted(value) {
  if (typeof value === "number") return isFinite(value) ? String(value) : "";
  let text = String(value);
  if (/^\s*[=+\-@]/.test(text)) text = "'" + text;
  return /[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
}

const slug = (text) => plain(text, 60).toLowerCase().replace(/[^a-z0-9]+/g, "-").replace(/^-|-$/g, "") || "maps";

// ---- colours ----

// Viridis, and ColorBrewer's RdBu from blue to red: even in lightness, and safe for colour-blind eyes.
const VIRIDIS = "440154 48186a 472d7b 424086 3b528b 33638d 2c728e 26828e 21918c 1fa088 28ae80 3fbc73 5ec962 84d44b addc30 d8e219 fde725";
const BLUE_RED = "053061 175290 2a71b2 3f8ec0 6bacd1 9bc9e0 c2ddec e0ecf3 f7f6f6 fbe5d8 fbccb4 f5aa89 e48066 d05548 ba2832 930e26 67001f";
// Petroff's ten colours for categories (arXiv 2107.02270).
const TEN = "3f90da ffa90e bd1f01 94a4a2 832db6 a96b59 e76300 b9ac70 717581 92dadd";

const parse = (hex) => [0, 2, 4].map((i) => parseInt(hex.slice(i, i + 2), 16));
const packed = ([r, g, b]) => (255 << 24 | b << 16 | g << 8 | r) >>> 0; // as ImageData holds it
const css = (colour) => `rgb(${colour & 255} ${colour >> 8 & 255} ${colour >> 16 & 255})`;

function table(anchors, steps = 0) {
  const points = anchors.split(" ").map(parse);
  return Uint32Array.from(steps ? range(steps).map((i) => {
    const t = i / (steps - 1) * (points.length - 1), k = min(floor(t), points.length - 2);
    return points[k].map((a, c) => round(a + (points[k + 1][c] - a) * (t - k)));
  }) : points, packed);
}

const TABLES = { one: table(VIRIDIS, 256), two: table(BLUE_RED, 256), ten: table(TEN), kept: table("3f90da ffa90e") };

// A scale from numbers to colours: from 0 to the greatest, or symmetric about 0 where there are two signs.
function ramp([low, high], signed = low < 0) {
  const top = low > high ? 1 : max(abs(low), abs(high)) || 1;
  return { colours: TABLES[signed ? "two" : "one"], low: signed ? -top : 0, high: top, none: low > high, single: low === high ? low : null };
}

// The colour of a value, 0 (transparent) where there is none; and of many.
function colour(scale, value) {
  if (isNaN(value)) return 0;
  if (scale.names) return scale.colours[value];
  const t = (value - scale.low) / (scale.high - scale.low);
  return scale.colours[t <= 0 ? 0 : t >= 1 ? 255 : round(t * 255)];
}
function coloured(values, scale) {
  const out = new Uint32Array(values.length);
  for (let i = 0; i < out.length; i++) out[i] = colour(scale, values[i]);
  return out;
}

// What a legend shows: the ticks of a colour bar, if there is one, and colours with their names; no colour is the hatch.
function legendOf(scale, holes, bare) {
  const one = (value, text) => [css(colour(scale, value)), text];
  const keys = scale.names ? scale.names.map((name, c) => one(c, name)) : scale.single == null ? [] : [one(scale.single, number(scale.single))];
  const ticks = keys.length || scale.none ? [] : [scale.low, (scale.low + scale.high) / 2, scale.high].map((x) => number(x));
  if (bare) keys.push(["rgb(138 138 138)", "no unit"]);
  return { what: scale.what, ticks, keys: holes ? [...keys, [null, scale.empty ?? "no value"]] : keys };
}

// ---- places ----

// Where units lie in the picture: x rightwards, y downwards, with what finds units there. Units that moved lie at `xy`,
// in a picture that holds all of the places in `others`.
function layOut(places, surfaces, xy = places.xy, others = []) {
  const { kind, units: n, spacing } = places, line = places.shape.length === 1;
  const [rows, cols] = line ? [1, ...places.shape] : places.shape.length ? places.shape : [0, 0];
  const lay = { kind, n, rows, cols, line };
  if (kind === "cells") {
    lay.height = line ? max(1, 0.08 * cols) : spacing.length === 2 ? spacing[0] / spacing[1] : 1;
    lay.at = (i) => [i % cols + 0.5, (floor(i / cols) + 0.5) * lay.height];
    lay.box = [0, 0, cols, rows * lay.height];
    lay.radius = min(1, lay.height) / 2;
    return lay;
  }
  if (kind === "surface") return onSurface(lay, places, surfaces[places.surface]);
  const up = kind === "hexagons" ? 1 : -1;
  const xs = new Float64Array(n), ys = new Float64Array(n);
  let x0 = Infinity, y0 = Infinity, x1 = -Infinity, y1 = -Infinity;
  for (let i = 0; i < n; i++) {
    const x = xs[i] = xy.at(2 * i), y = ys[i] = up * xy.at(2 * i + 1);
    x0 = min(x0, x), x1 = max(x1, x), y0 = min(y0, y), y1 = max(y1, y);
  }
  for (const other of others) for (let i = 0; i < other.size; i += 2) {
    const x = other.at(i), y = up * other.at(i + 1);
    x0 = min(x0, x), x1 = max(x1, x), y0 = min(y0, y), y1 = max(y1, y);
  }
  // room for one unit if the units were spread evenly over the box, or the line, that holds them
  const across = x1 - x0, down = y1 - y0, least = max(across, down) / n;
  const room = sqrt(max(across, least) * max(down, least) / n) || 1;
  lay.radius = kind === "hexagons" ? 1 / sqrt(3) : kind === "sphere" ? 0.5 : 0.42 * room;
  const edge = 1.15 * lay.radius;
  lay.box = [x0 - edge, y0 - edge, x1 + edge, y1 + edge];
  if (kind === "sphere") {
    const a = 2 * Math.SQRT2 * places.radius;
    if (a) lay.outline = a, lay.box = [-a - edge, -a / 2 - edge, a + edge, a / 2 + edge];
  }
  return Object.assign(lay, { xs, ys, up, at: (i) => [xs[i], ys[i]] });
}

// Units by the square of a regular mesh that they lie in.
function mesh(lay) {
  const [x0, y0, x1, y1] = lay.box, side = max(sqrt((x1 - x0) * (y1 - y0) / lay.n), max(x1 - x0, y1 - y0) / 2048);
  const cols = Math.ceil((x1 - x0) / side) || 1, rows = Math.ceil((y1 - y0) / side) || 1;
  const squares = new Uint32Array(lay.n); // every unit lies inside the box
  for (let i = 0; i < lay.n; i++) squares[i] = floor((lay.ys[i] - y0) / side) * cols + floor((lay.xs[i] - x0) / side);
  const [start, units] = grouped(squares, rows * cols);
  return { x0, y0, side, cols, rows, start, units };
}

// The k units nearest to a place, the nearest first, as [squared distance, unit].
function nearest(lay, x, y, k) {
  const { x0, y0, side, cols, rows, start, units } = lay.mesh ??= mesh(lay);
  const cx = floor((x - x0) / side), cy = floor((y - y0) / side);
  for (let reach = 1; ; reach *= 2) {
    const found = [];
    for (let r = max(cy - reach, 0); r <= min(cy + reach, rows - 1); r++) {
      const from = start[r * cols + clamp(cx - reach, 0, cols)], to = start[r * cols + clamp(cx + reach + 1, 0, cols)];
      for (const i of units.subarray(from, to)) found.push([(lay.xs[i] - x) ** 2 + (lay.ys[i] - y) ** 2, i]);
    }
    found.sort((a, b) => a[0] - b[0] || a[1] - b[1]);
    if (reach > 1e5 || (found.length >= k && found[k - 1][0] <= (reach * side) ** 2)) return found.slice(0, k);
  }
}

// The unit at a place, or null; `slack` is how far beside a unit the pointer may be.
function unitAt(lay, x, y, slack) {
  if (lay.surface) {
    const { index, w, h, scale, dx, dy } = lay.raster ?? { w: 0 }, col = floor(x * scale + dx), row = floor(y * scale + dy);
    return col >= 0 && col < w && row >= 0 && row < h ? (lay.coloured[index[row * w + col]] || null) && lay.coloured[index[row * w + col]] - 1 : null;
  }
  if (lay.kind === "cells") {
    const c = floor(x), r = floor(y / lay.height), i = r * lay.cols + c;
    return c >= 0 && r >= 0 && c < lay.cols && i < lay.n ? i : null;
  }
  const [one] = nearest(lay, x, y, 1);
  return one && one[0] <= max(1.3 * lay.radius, slack) ** 2 ? one[1] : null;
}

// The next unit to the right (1, 0), below (0, 1), …; the unit itself at the edge.
function step(lay, unit, dx, dy) {
  if (lay.rows) {
    const c = unit % lay.cols + dx, r = floor(unit / lay.cols) + dy, i = r * lay.cols + c;
    return c >= 0 && c < lay.cols && r >= 0 && i < lay.n ? i : unit;
  }
  let best = unit, least = Infinity;
  for (let i = 0; i < lay.n; i++) if (isFront(lay, i)) {
    const x = lay.xs[i] - lay.xs[unit], y = lay.ys[i] - lay.ys[unit];
    const along = x * dx + y * dy, beside = abs(x * dy) + abs(y * dx);
    if (along > 0 && beside <= 1.5 * along && along + beside < least) best = i, least = along + beside;
  }
  return best;
}

// The units around one: at most 8 on a grid, 6 otherwise.
function neighbours(lay, unit) {
  const found = new Set(), around = [-1, 0, 1];
  if (lay.kind === "cells") for (const dy of around) for (const dx of around) found.add(step(lay, unit, dx, dy));
  else if (lay.surface) return nearestOn(lay, unit, 6);
  else for (const [d, i] of nearest(lay, ...lay.at(unit), 7)) if (lay.kind !== "hexagons" || d < 2) found.add(i);
  found.delete(unit);
  return [...found];
}

const middleOf = (lay) => min(floor(lay.rows / 2) * lay.cols + floor((lay.cols || lay.n) / 2), lay.n - 1);

// A unit's place in numbers, and in words.
const numbersOf = (lay, unit) => (lay.surface ? [lay.vertex[unit]] : lay.rows ? [unit % lay.cols, floor(unit / lay.cols)] : [lay.xs[unit], lay.up * lay.ys[unit]]);
function placeOf(lay, unit) {
  const [x, y] = numbersOf(lay, unit);
  return lay.surface ? `vertex ${x}` : lay.line ? `place ${x}` : lay.rows ? `row ${y}, column ${x}` : `x ${number(x)}, y ${number(y)}`;
}

// ---- surfaces ----

const TALL = 0.72; // height to width of a surface's picture
const BENEATH = [168, 138, 107]; // greys of a surface without a unit: folded outwards, flat, folded inwards
const isFront = (lay, unit) => !lay.surface?.closed || lay.facing[lay.vertex[unit]] > 0;
const lit = (facing, least) => least + (1 - least) * min(abs(facing) * Math.SQRT2, 1);
const shaded = (colour, light) => (255 << 24 | (colour >> 16 & 255) * light << 16 | (colour >> 8 & 255) * light << 8 | (colour & 255) * light) >>> 0;

// A surface with its points and normals as numbers, made once.
function solid(surface) {
  if (surface.points) return surface;
  const { vertices, faces: { codes } } = surface, points = Float32Array.from({ length: vertices.size }, (_, i) => vertices.at(i));
  const normals = new Float32Array(points.length);
  let volume = 0, area = 0;
  for (let f = 0; f < codes.length; f += 3) {
    const [a, b, c] = [0, 1, 2].map((k) => 3 * codes[f + k]), side = (from, to, k) => points[to + k] - points[from + k];
    for (let k = 0; k < 3; k++) {
      const i = (k + 1) % 3, j = (k + 2) % 3, n = side(a, b, i) * side(a, c, j) - side(a, b, j) * side(a, c, i);
      for (const at of [a, b, c]) normals[at + k] += n;
      volume += points[a + k] * n, area += abs(n) / 3;
    }
  }
  surface.outwards = volume < 0 ? -1 : 1;
  for (let i = 0; i < normals.length; i += 3) {
    const long = surface.outwards * hypot(normals[i], normals[i + 1], normals[i + 2]) || 1;
    for (let k = 0; k < 3; k++) normals[i + k] /= long;
  }
  return Object.assign(surface, { points, normals, area, n: points.length / 3, reach: max(...range(points.length / 3).map((i) => hypot(...points.subarray(3 * i, 3 * i + 3)))) });
}

function onSurface(lay, { vertex, coloured, turn, window: [x0, x1, y0, y1] }, described) {
  const surface = solid(described), r = 1.02 * surface.reach, there = coloured.codes.reduce((n, one) => n + (one > 0), 0);
  const zoom = max(1, min(2 * r / TALL / (x1 - x0), 2 * r / (y1 - y0)));
  Object.assign(lay, { surface, vertex: vertex.codes, coloured: coloured.codes, bare: there < surface.n, box: [-r, -r, r, r] });
  lay.radius = 0.42 * sqrt(surface.area * there / surface.n / lay.n);
  lay.first = { zoom, turn, x: (x0 + x1) / 2, y: -(y0 + y1) / 2 };
  for (const name of ["X", "Y", "Z", "facing"]) lay[name] = new Float32Array(surface.n);
  lay.xs = new Float32Array(lay.n), lay.ys = new Float32Array(lay.n);
  lay.at = (i) => [lay.xs[i], lay.ys[i]];
  turnTo(lay, turn);
  return lay;
}

// Turn a surface: the rows of `turn` go to the right, upwards, and towards the reader.
function turnTo(lay, turn) {
  if (lay.turn === turn) return;
  const { surface: { points, normals, n }, X, Y, Z, facing } = lay, [a, b, c, d, e, f, g, h, i] = lay.turn = turn;
  for (let v = 0, k = 0; v < n; v++, k += 3) {
    const x = points[k], y = points[k + 1], z = points[k + 2];
    X[v] = a * x + b * y + c * z, Y[v] = -(d * x + e * y + f * z), Z[v] = g * x + h * y + i * z;
    facing[v] = g * normals[k] + h * normals[k + 1] + i * normals[k + 2];
  }
  for (let u = 0; u < lay.n; u++) lay.xs[u] = X[lay.vertex[u]], lay.ys[u] = Y[lay.vertex[u]];
}

// A turn by angles: what is in front moves to the right, and downwards.
function turnedBy([a, b, c, d, e, f, g, h, i], right, down) {
  const [s, t, u, v] = [Math.sin(right), Math.cos(right), Math.sin(down), Math.cos(down)];
  const front = [t * g - s * a, t * h - s * b, t * i - s * c];
  return [t * a + s * g, t * b + s * h, t * c + s * i, ...[d, e, f].map((up, k) => v * up - u * front[k]), ...[d, e, f].map((up, k) => u * up + v * front[k])];
}

// The vertex that is seen at each pixel, -1 beside the surface: of several triangles the nearest, and of a triangle the
// vertex with the largest share of its point.
function rastered(lay, { scale, dx, dy }, w, h) {
  const key = [w, h, scale, dx, dy, ...lay.turn].join();
  if (lay.raster?.key === key) return lay.raster;
  const { surface: { faces: { codes }, closed, outwards, n }, Z } = lay, xs = new Float32Array(n), ys = new Float32Array(n);
  const index = new Int32Array(w * h).fill(-1), depth = new Float32Array(w * h).fill(-Infinity);
  for (let v = 0; v < n; v++) xs[v] = lay.X[v] * scale + dx - 0.5, ys[v] = lay.Y[v] * scale + dy - 0.5;
  for (let f = 0; f < codes.length; f += 3) {
    const a = codes[f], b = codes[f + 1], c = codes[f + 2], xa = xs[a], ya = ys[a], xb = xs[b], yb = ys[b], xc = xs[c], yc = ys[c];
    const area = (xb - xa) * (yc - ya) - (xc - xa) * (yb - ya);
    if (!area || (closed && area * outwards > 0)) continue; // it looks away
    const left = max(Math.ceil(min(xa, xb, xc)), 0), right = min(floor(max(xa, xb, xc)), w - 1);
    const top = max(Math.ceil(min(ya, yb, yc)), 0), bottom = min(floor(max(ya, yb, yc)), h - 1);
    const stepA = (yb - yc) / area, stepB = (yc - ya) / area;
    for (let y = top; y <= bottom; y++) {
      let sa = ((xc - xb) * (y - yb) - (left - xb) * (yc - yb)) / area, sb = ((xa - xc) * (y - yc) - (left - xc) * (ya - yc)) / area;
      for (let x = left, at = y * w + left; x <= right; x++, at++, sa += stepA, sb += stepB) {
        const sc = 1 - sa - sb;
        if (sa < -1e-5 || sb < -1e-5 || sc < -1e-5) continue;
        const z = sa * Z[a] + sb * Z[b] + sc * Z[c];
        if (z > depth[at]) depth[at] = z, index[at] = sa >= sb ? (sa >= sc ? a : c) : sb >= sc ? b : c;
      }
    }
  }
  return lay.raster = { key, index, w, h, scale, dx, dy };
}

// A surface with its units' parts in their colours, `fine` times as fine as the canvas.
function drawSurface(pen, lay, { scale, dx, dy }, colours, dark, ratio, fine) {
  const { surface, coloured, facing } = lay, { width: w, height: h } = pen.canvas, n = surface.n, bent = surface.curvature;
  const { index } = rastered(lay, { scale: scale * fine, dx: dx * fine, dy: dy * fine }, w * fine, h * fine);
  // the colours of the vertices, and those at the lines of the hatch
  const hatched = (dark ? ["38383b", "4a4a4e"] : ["e4e4e7", "d2d2d7"]).map((hex) => packed(parse(hex))), [fills, lines] = hatched.map((none) => {
    const table = new Uint32Array(n);
    for (let v = 0; v < n; v++) {
      const unit = coloured[v] - 1, fold = bent ? bent.at(v) : 0, grey = BENEATH[1] + (BENEATH[fold > 0 ? 2 : 0] - BENEATH[1]) * abs(fold);
      table[v] = unit < 0 ? shaded(0xffffff, grey / 255 * lit(facing[v], 0.45)) : shaded(colours[unit] || none, lit(facing[v], 0.75));
    }
    return table;
  });
  const canvas = new OffscreenCanvas(w * fine, h * fine), inner = canvas.getContext("2d"), image = inner.createImageData(w * fine, h * fine);
  const pixels = new Uint32Array(image.data.buffer), apart = round(6 * ratio * fine), thick = 1.4 * ratio * fine;
  for (let y = 0, at = 0; y < h * fine; y++) for (let x = 0; x < w * fine; x++, at++) {
    if (index[at] >= 0) pixels[at] = ((x + y) % apart < thick ? lines : fills)[index[at]];
  }
  inner.putImageData(image, 0, 0);
  pen.imageSmoothingEnabled = true;
  pen.drawImage(canvas, 0, 0, w, h);
}

// The k units that are nearest to one in space.
function nearestOn({ surface: { points }, vertex, n }, unit, k) {
  const far = (i) => [0, 1, 2].reduce((sum, c) => sum + (points[3 * vertex[i] + c] - points[3 * vertex[unit] + c]) ** 2, 0);
  return range(n).filter((i) => i !== unit).map((i) => [far(i), i]).sort((a, b) => a[0] - b[0]).slice(0, k).map(([, i]) => i);
}

// ---- picture ----

const TILE = 4096; // pixels of a texture's side
const MANY = 5000; // units that are drawn as shapes; beyond, as pixels

// Sheet to canvas: scale and shift, for a canvas of w × h pixels and a view {zoom, x, y} whose x, y is in its middle.
function projection(lay, view, w, h) {
  if (lay.surface) turnTo(lay, view.turn);
  const [x0, y0, x1, y1] = lay.box;
  const scale = view.zoom * min(w / (x1 - x0), h / (y1 - y0));
  // inside, the sheet fills the canvas; where it is smaller than the canvas, it is centred
  const middle = (at, low, high, size) => {
    const half = size / 2 / scale;
    return high - low <= 2 * half ? (low + high) / 2 : clamp(at, low + half, high - half);
  };
  view.x = middle(view.x ?? (x0 + x1) / 2, x0, x1, w);
  view.y = middle(view.y ?? (y0 + y1) / 2, y0, y1, h);
  return { scale, dx: w / 2 - view.x * scale, dy: h / 2 - view.y * scale };
}

// Cells as pictures of one pixel each.
function textures(lay, colours) {
  const tiles = [];
  for (let y = 0; y < lay.rows; y += TILE) for (let x = 0; x < lay.cols; x += TILE) {
    const w = min(TILE, lay.cols - x), h = min(TILE, lay.rows - y);
    const canvas = new OffscreenCanvas(w, h), pen = canvas.getContext("2d");
    const image = pen.createImageData(w, h), pixels = new Uint32Array(image.data.buffer);
    for (let r = 0; r < h; r++) {
      const first = (y + r) * lay.cols + x;
      pixels.set(colours.subarray(first, first + w), r * w);
    }
    pen.putImageData(image, 0, 0);
    tiles.push({ canvas, x, y, w, h });
  }
  return tiles;
}

// Height to width of a sheet's picture.
const aspectOf = ({ surface, box: [x0, y0, x1, y1] }) => (surface ? TALL : clamp((y1 - y0) / (x1 - x0), 0.06, 1));

// The hatch that stands for "no value".
function hatch(dark, ratio) {
  const size = round(6 * ratio), canvas = new OffscreenCanvas(size, size), pen = canvas.getContext("2d");
  pen.fillStyle = dark ? "#38383b" : "#e4e4e7";
  pen.fillRect(0, 0, size, size);
  pen.strokeStyle = dark ? "#4a4a4e" : "#d2d2d7";
  pen.lineWidth = ratio;
  pen.beginPath();
  for (const shift of [-size, 0, size]) pen.moveTo(shift, size), pen.lineTo(shift + size, 0);
  pen.stroke();
  return pen.createPattern(canvas, "repeat");
}

function shape(pen, lay, x, y, radius) {
  if (lay.kind === "hexagons") {
    for (let k = 0; k < 6; k++) {
      const angle = Math.PI * (k / 3 + 1 / 6);
      pen[k ? "lineTo" : "moveTo"](x + radius * Math.cos(angle), y + radius * Math.sin(angle));
    }
    pen.closePath();
  } else {
    pen.moveTo(x + radius, y);
    pen.arc(x, y, radius, 0, 2 * Math.PI);
  }
}

// All units of a sheet in the colours of their values.
function drawSheet(pen, lay, p, picture, dark, ratio, fine = 1) {
  const { width: w, height: h } = pen.canvas;
  pen.clearRect(0, 0, w, h);
  if (lay.surface) return drawSurface(pen, lay, p, picture.colours, dark, ratio, fine);
  const none = hatch(dark, ratio), { scale, dx, dy } = p;
  if (lay.kind === "cells") {
    const tall = scale * lay.height, full = floor(lay.n / lay.cols), rest = lay.n % lay.cols;
    pen.fillStyle = none;
    pen.fillRect(dx, dy, lay.cols * scale, full * tall);
    pen.fillRect(dx, dy + full * tall, rest * scale, rest ? tall : 0);
    pen.imageSmoothingEnabled = false;
    for (const t of picture.tiles) pen.drawImage(t.canvas, dx + t.x * scale, dy + t.y * tall, t.w * scale, t.h * tall);
    return;
  }
  const radius = lay.radius * scale, { colours } = picture, there = new Uint32Array(lay.n);
  let count = 0;
  for (let i = 0; i < lay.n; i++) {
    const x = lay.xs[i] * scale + dx, y = lay.ys[i] * scale + dy;
    if (x > -radius && y > -radius && x < w + radius && y < h + radius) there[count++] = i;
  }
  const shown = there.subarray(0, count);
  if (count > MANY) drawPixels(pen, lay, p, shown, colours, dark);
  else for (const i of shown) {
    pen.beginPath();
    shape(pen, lay, lay.xs[i] * scale + dx, lay.ys[i] * scale + dy, radius + (lay.kind === "hexagons" ? 0.35 : 0));
    pen.fillStyle = colours[i] ? css(colours[i]) : none;
    pen.fill();
  }
  if (lay.outline) {
    pen.beginPath();
    pen.ellipse(dx, dy, lay.outline * scale, lay.outline / 2 * scale, 0, 0, 2 * Math.PI);
    pen.strokeStyle = "#8e8e93";
    pen.lineWidth = ratio;
    pen.stroke();
  }
}

// Many units at once, row by row of their pixels.
function drawPixels(pen, lay, { scale, dx, dy }, shown, colours, dark) {
  const { width: w, height: h } = pen.canvas;
  const image = pen.createImageData(w, h), pixels = new Uint32Array(image.data.buffer);
  const none = packed(parse(dark ? "38383b" : "e4e4e7")), hexagons = lay.kind === "hexagons";
  const wide = (hexagons ? 0.5 : lay.radius) * scale, tall = hexagons ? sqrt(0.1875) * scale : wide;
  for (const i of shown) {
    const x = lay.xs[i] * scale + dx, y = lay.ys[i] * scale + dy, fill = colours[i] || none;
    const top = round(y - tall), bottom = max(round(y + tall), top + 1);
    for (let r = max(top, 0); r < min(bottom, h); r++) {
      const half = hexagons || tall < 1.5 ? wide : sqrt(max(wide ** 2 - (r + 0.5 - y) ** 2, 0));
      const left = round(x - half), right = max(round(x + half), left + 1);
      for (let q = r * w + max(left, 0), end = r * w + min(right, w); q < end; q++) pixels[q] = fill;
    }
  }
  pen.putImageData(image, 0, 0);
}

// The outline of a unit: dark with a light rim, which is seen on every colour.
function drawMark(pen, lay, p, unit, weight, ratio) {
  const [ux, uy] = lay.at(unit), x = ux * p.scale + p.dx, y = uy * p.scale + p.dy;
  pen.beginPath();
  if (lay.kind === "cells") {
    const a = max(p.scale, 6 * ratio), b = max(p.scale * lay.height, 6 * ratio);
    pen.rect(x - a / 2, y - b / 2, a, b);
  } else shape(pen, lay, x, y, max(lay.radius * p.scale, 3.5 * ratio));
  for (const [width, style] of [[weight + 2, "#fff"], [weight, "#111"]]) {
    pen.lineWidth = width * ratio;
    pen.strokeStyle = style;
    pen.stroke();
  }
}

// ---- what is shown ----

const has = (net, sheet) => sheet != null && Object.hasOwn(net.sheets, sheet);
// The layers of a network that have both ends on its sheets.
const pairs = (net) => Object.keys(net.layers).filter((name) => has(net, net.layers[name].source) && has(net, net.layers[name].target));
const layersAt = (net, sheet, into) => Object.keys(net.layers).filter((name) => net.layers[name][into ? "target" : "source"] === sheet);

const isWire = ({ origin, weight, units }, e) => origin.codes[e] < units[0] && !isNaN(weight.at(e));

// The wires into a unit, or out of it, the strongest first: the unit at their other end, |V|, length and rank.
function wiresOf(layer, unit, into) {
  const { origin, weight, distance, rank, units: [sources, targets] } = layer, k = origin.shape[1];
  if (!into && !origin.leaving) {
    const [start, entries] = grouped(origin.codes, sources);
    origin.leaving = (s) => (s < sources ? Array.from(entries.subarray(start[s], start[s + 1])) : []);
  }
  const entries = !into ? origin.leaving(unit) : unit < targets ? range(k).map((j) => unit * k + j) : [];
  return entries.filter((e) => isWire(layer, e))
    .map((e) => ({ unit: into ? origin.codes[e] : floor(e / k), weight: weight.at(e), length: distance.at(e), rank: rank.at(e) }))
    .sort((a, b) => b.weight - a.weight);
}

// For each unit, the number of its listed wires that are kept if a layer is cut down to a share of its wires.
function keptWires(layer, leaving, share) {
  const { origin, rank, units } = layer, counts = new Float32Array(units[leaving ? 0 : 1]), k = origin.shape[1];
  for (let e = 0; e < rank.size; e++) {
    const unit = leaving ? origin.codes[e] : floor(e / k);
    if (isWire(layer, e) && rank.at(e) <= share) counts[unit]++;
  }
  return counts;
}

// The class with the largest d′ of each unit; none where two are alike, or one is undefined and could be the largest.
function preferred(array, units) {
  const out = new Float32Array(units).fill(NaN), best = new Float64Array(units).fill(-Infinity);
  for (let c = 0; c < array.shape[0]; c++) for (let i = 0; i < units; i++) {
    const value = array.at(c * units + i);
    if (isNaN(value)) best[i] = Infinity, out[i] = NaN;
    else if (value > best[i]) best[i] = value, out[i] = c;
    else if (value === best[i]) out[i] = NaN;
  }
  return out;
}

// The share of the units' variance that factors (k, units) hold: where it is 1, they give correlations exactly.
function heldBy(array, units) {
  let held = 0, n = 0;
  for (let i = 0; i < units; i++) {
    let own = 0;
    for (let f = 0; f < array.shape[0]; f++) own += array.at(f * units + i) ** 2;
    if (own > 1e-4) held += min(own, 1), n++;
  }
  return n ? held / n : 1;
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
  if (!sheet.epochs?.length) return null;
  return max(sheet.epochs.findLastIndex((e) => e <= (epoch ?? Infinity)), 0);
}

// The same for class means, of which no epochs may have been kept.
const meansIndex = (sheet, epoch) => (sheet.epoch_means ? epochIndex(sheet, epoch) : null);

// The class means of a sheet at an epoch: the array, and the row of class 0. Those of the end are kept more exactly.
function meansAt(sheet, epoch) {
  const e = meansIndex(sheet, epoch);
  return e == null || e === sheet.epochs.length - 1 ? [sheet.means, 0] : [sheet.epoch_means, e * sheet.means.shape[0]];
}

const meansExtent = (sheet) => union([sheet.means, sheet.epoch_means].filter(Boolean).map(extent));

const BY = { weight: "strength |V|", length: "length", kept: "kept or cut" };

// What a sheet can be coloured by, as [word, label].
function quantities(net, name) {
  const sheet = net.sheets[name], classes = sheet.means.shape[0];
  const [from, into] = [false, true].map((end) => layersAt(net, name, end).length);
  return [
    ["mean", classes > 1 ? "class mean" : "mean response"],
    sheet.selectivity && ["d", "selectivity d′"],
    sheet.selectivity && classes > 1 && classes <= 10 && ["best", "preferred class"],
    sheet.factors && ["r", "correlation with a unit"],
    from && ["in", "wires into a unit"],
    into && ["out", "wires out of a unit"],
    (from || into) && ["kept", "wires that would be kept"],
  ].filter(Boolean);
}

// ---- the explorer ----

const STYLE = `
:host { display: block; text-align: start; }
* { box-sizing: border-box; }
[hidden] { display: none !important; }
.explorer { --ink: light-dark(#1d1d1f, #ececee); --quiet: light-dark(#5f5f64, #a5a5ab); --accent: light-dark(#0066b3, #6cb8ff);
  container-type: inline-size; overflow: clip; overflow-clip-margin: 5px; color: var(--ink); overflow-wrap: anywhere; font-variant-numeric: tabular-nums;
  font: 14px/1.45 system-ui, sans-serif; }
h3 { font-size: 16px; font-weight: 600; margin: 0 0 8px; }
.row { display: flex; flex-wrap: wrap; gap: 6px 18px; align-items: end; }
label { display: grid; font-size: 11.5px; color: var(--quiet); min-width: 0; max-width: 100%; }
select { font: inherit; font-size: 14px; color: var(--ink); background: none; border: 0; border-bottom: 1px solid #8888;
  padding: 2px 0 3px; max-width: min(17em, 100%); cursor: pointer; }
button { font: inherit; color: var(--accent); background: none; border: 0; padding: 4px 0; cursor: pointer; }
input { accent-color: var(--accent); width: 100%; margin: 3px 0; height: 18px; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.time { display: flex; gap: 10px; align-items: end; }
.time button { width: 1.4em; line-height: 1; padding-bottom: 6px; }
.slider { flex: 1 1 14em; max-width: 22em; }
.legend, .note, .unit { font-size: 12.5px; color: var(--quiet); }
.legend { display: flex; flex-wrap: wrap; gap: 2px 14px; align-items: center; align-content: start; }
.what { flex: 1 1 100%; }
.shared, .note { margin: 10px 0 0; }
.bar { width: min(240px, 60%); }
.bar i { display: block; height: 9px; }
.bar span { display: flex; justify-content: space-between; line-height: 1.35; color: var(--ink); }
.key { display: flex; align-items: center; gap: 5px; color: var(--ink); }
.key i { width: 11px; height: 11px; flex: none; }
.hatch { background: repeating-linear-gradient(-45deg, light-dark(#e4e4e7, #38383b) 0 3px, light-dark(#cfcfd4, #4e4e53) 3px 4px); }
.panels { display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); column-gap: 28px; }
.panels.one { grid-template-columns: minmax(0, 34em); }
.panel { display: grid; grid-template: subgrid / minmax(0, 1fr); grid-row: span 6; row-gap: 8px; margin-top: 14px; }
.panel p { margin: 0; }
.panel b { margin-right: 6px; }
canvas { width: 100%; cursor: crosshair; user-select: none; }
.status { min-height: 1.45em; font-weight: 600; }
h4 { font-size: inherit; font-weight: 600; color: var(--ink); margin: 9px 0 3px; }
table { border-collapse: collapse; width: 100%; max-width: 30em; color: var(--ink); }
td, th { padding: 0 10px 0 0; line-height: 1.5; text-align: start; font-weight: inherit; }
th, .cut { color: var(--quiet); }
.cut { text-decoration: line-through; }
.n { text-align: end; white-space: nowrap; width: 4.5em; }
.tune td:first-child { width: 30%; }
.tune i { display: block; height: 7px; background: #8e8e93; min-width: 1px; }
.now { font-weight: 600; }
.tune .now i { background: var(--accent); }
@container (max-width: 600px) { .panels { grid-template-columns: minmax(0, 1fr); } select { font-size: 16px; } }
@media print { button { display: none; } .explorer { print-color-adjust: exact; } }
`;

const HELP = "Point at a unit, or move with the arrow keys. Click or press Enter to pin it, and Escape to release it. Zoom with + and − (0 shows the "
  + "whole sheet), by pinching, or with the wheel once the map is selected. Drag, or press Shift with the arrow keys, to move the sheet, or to turn a surface.";

// An element such as "p.note", its properties and children. Texts are only ever set as text.
function make(what, properties, ...children) {
  const [tag, className = ""] = what.split("."), element = Object.assign(document.createElement(tag), { className }, properties);
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
  performance.mark("explorer:start");
  const root = host.shadowRoot ?? host.attachShadow({ mode: "open" }), frame = make("div.explorer");
  root.replaceChildren(make("style", {}, STYLE), frame);
  // numbers of several bytes must lie at multiples of them
  const aligned = ArrayBuffer.isView(buffer) ? new Uint8Array(buffer.buffer, buffer.byteOffset, buffer.byteLength).slice().buffer : buffer;
  description = opened(description, aligned);
  const networks = description.networks.filter((net) => Object.keys(net.sheets).length);
  if (!networks.length) return frame.append("There is no sheet to show."), { destroy() {} };

  // -- state
  const times = {}; // networks of one name and seed are told apart
  for (const net of networks) {
    const key = `${net.seed} ${net.name}`, n = times[key] = (times[key] ?? 0) + 1;
    if (n > 1) net.name += ` (${n})`;
  }
  const stop = new AbortController();
  const control = networks.find((net) => net.name === "control") ?? networks[0];
  // what the panels show; later also their elements
  const panels = ["A", "B"].map((letter) => ({ letter, net: control, sheet: Object.keys(control.sheets).at(-1), value: "mean", layer: null, cls: 0, epoch: null }));
  let compare = "one", link = "same", by = "weight", share = 1;
  let over = null, held = null; // the unit under the pointer and the held one, as {p, unit}, p its panel
  const lastOn = new Map(); // sheet → the unit that was pointed at last
  const layouts = [], views = []; // of each of the places: sheets at the same places are seen from the same view, {zoom, x, y}

  const sheetOf = (p) => p.net.sheets[p.sheet];
  // where units lie; those that move lie elsewhere at other epochs
  function layoutIn(net, name, epoch = null) {
    const sheet = net.sheets[name], places = description.places[sheet.places], moved = sheet.epoch_xy;
    if (!moved?.size) return layouts[sheet.places] ??= layOut(places, description.surfaces);
    const e = epochIndex(sheet, epoch), from = 2 * e * places.units;
    return (sheet.layouts ??= [])[e] ??= layOut(places, [], e === sheet.epochs.length - 1 ? places.xy : { at: (i) => moved.at(from + i) }, [places.xy, moved]);
  }
  const layoutOf = (p) => layoutIn(p.net, p.sheet, p.epoch);
  const viewOf = (p) => views[sheetOf(p).places] ??= { zoom: 1, ...layoutOf(p).first };
  const shown = () => (compare === "one" ? panels.slice(0, 1) : panels);
  const otherOf = (p) => panels[p === panels[0] ? 1 : 0];
  const classCount = (p) => sheetOf(p).means.shape[0];
  const classText = (c) => description.classes[c] ?? `${c}`;
  const hasClass = (p) => (p.value === "mean" || p.value === "d") && classCount(p) > 1;
  const hasEpochs = (p) => (p.value === "mean" || sheetOf(p).epoch_xy) && sheetOf(p).epochs?.length > 1;

  const distinct = (list) => [...new Set(list)];
  const names = distinct(networks.map((net) => net.name));
  const ofName = (name) => networks.filter((net) => net.name === name);
  const seedOf = (net) => `${net.seed ?? "–"}`;
  const layersOf = (p) => {
    if (compare === "layer") return pairs(p.net);
    const [from, into] = [false, true].map((end) => layersAt(p.net, p.sheet, end));
    return { in: from, out: into, kept: distinct([...into, ...from]) }[p.value] ?? [];
  };

  // What a panel can be set to: options are words, or [word, text].
  const field = (key, label, options) => ({ label, options, get: (p) => p[key], set: (p, word) => { p[key] = word; } });
  const FIELDS = {
    network: {
      label: "network", get: (p) => p.net.name, options: () => names,
      set: (p, name) => { p.net = ofName(name).find((net) => net.seed === p.net.seed) ?? ofName(name)[0]; },
    },
    seed: {
      label: "seed", get: (p) => seedOf(p.net), options: (p) => distinct(ofName(p.net.name).map(seedOf)),
      set: (p, seed) => { p.net = ofName(p.net.name).find((net) => seedOf(net) === seed) ?? p.net; },
    },
    sheet: field("sheet", "sheet", (p) => (compare === "layer" ? [] : Object.keys(p.net.sheets))),
    value: field("value", "colour by", (p) => quantities(p.net, p.sheet)),
    layer: field("layer", "layer", (p) => layersOf(p)),
    cls: field("cls", "class", (p) => (hasClass(p) ? range(classCount(p)).map((c) => [c, classText(c)]) : [])),
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
      p.cls = min(Number(p.cls), classCount(p) - 1);
    }
    const there = (focus) => focus && shown().includes(focus.p) && focus.unit < layoutOf(focus.p).n;
    if (!there(held)) held = null;
    if (!there(over)) over = null;
  }

  // What panels compare: its name, the settings that then differ (all others are the same in both), where it can be.
  const COMPARE = {
    networks: ["two networks", ["network"], () => names.length > 1],
    seeds: ["two seeds", ["seed"], (net) => ofName(net.name).length > 1],
    epochs: ["two epochs", ["epoch"], (net, sheet) => net.sheets[sheet].epochs?.length > 1],
    layer: ["input → output of a layer", ["value"], (net) => pairs(net).length],
    classes: ["two classes", ["cls"], (net, sheet) => net.sheets[sheet].means.shape[0] > 1],
    free: ["any two maps", [...Object.keys(FIELDS), "epoch"], (net, sheet) => everywhere.length > 1 || quantities(net, sheet).length > 1],
    one: ["one map only", [], () => true],
  };
  const everywhere = networks.flatMap((net) => Object.keys(net.sheets).map((sheet) => [net, sheet]));
  const choices = Object.keys(COMPARE).filter((word) => everywhere.some((where) => COMPARE[word][2](...where)));

  function setCompare(word) {
    const [a, b] = panels;
    if (word !== "free") {
      if (compare === "layer") Object.assign(a, { sheet: b.sheet, value: "mean" });
      if (!COMPARE[word][2](a.net, a.sheet)) [a.net, a.sheet] = everywhere.find((where) => COMPARE[word][2](...where));
      if (compare === "epochs") a.epoch = null;
      const { net, sheet, value, layer, cls, epoch } = a;
      Object.assign(b, { net, sheet, value, layer, cls, epoch });
    }
    compare = word;
    link = word === "layer" ? "wires" : "same";
    if (word === "networks") FIELDS.network.set(b, [...names, description.against].filter((name) => name !== a.net.name && names.includes(name)).at(-1));
    if (word === "seeds") b.net = ofName(a.net.name).find((net) => net !== a.net);
    if (word === "epochs") a.value = b.value = "mean", a.epoch = sheetOf(a).epochs[0], b.epoch = null;
    if (word === "classes") b.cls = (a.cls + 1) % classCount(a);
    settle();
  }

  // -- what a panel shows
  // The unit of a sheet of n whose correlations or wires are shown: the one in focus, or the same unit of another sheet
  // that is; the last one pointed at; the middle one.
  function probe(net, sheet, n) {
    const focus = held ?? over, there = focus?.p;
    if (focus && focus.unit < n && there.sheet === sheet) return focus.unit;
    if (focus && linkNow() === "same" && layoutOf(there).n === n) return focus.unit;
    if (lastOn.get(sheet) < n) return lastOn.get(sheet);
    return has(net, sheet) ? middleOf(layoutIn(net, sheet)) : floor(n / 2);
  }
  const unitName = (net, sheet, unit) => (has(net, sheet) ? placeOf(layoutIn(net, sheet), unit) : `unit ${unit}`);

  // What the values of a panel are, in words, and the values; the key tells whether they have changed.
  function shownOn(p) {
    const sheet = sheetOf(p), n = layoutOf(p).n, layer = p.net.layers[p.layer];
    const told = (text, key, values) => ({ text, key: [networks.indexOf(p.net), p.sheet, p.value, ...key].join("|"), values });
    const ofClass = classCount(p) > 1 ? ` of “${plain(classText(p.cls), 24)}”` : "";
    switch (p.value) {
      case "mean": {
        const e = meansIndex(sheet, p.epoch), [array, first] = meansAt(sheet, p.epoch);
        const when = e == null ? "" : `, ${epochText(sheet.epochs[e])}`;
        return told((ofClass ? "class mean" : "mean response") + ofClass + when, [p.cls, e], () => row(array, first + p.cls, n));
      }
      case "d": return told(`selectivity d′${ofClass}`, [p.cls], () => row(sheet.selectivity, p.cls, n));
      case "best": return told("preferred class", [], () => preferred(sheet.selectivity, n));
      case "r": {
        const unit = probe(p.net, p.sheet, n);
        return told(`correlation with the unit at ${placeOf(layoutOf(p), unit)}`, [unit], () => correlation(sheet.factors, n, unit));
      }
      case "kept": {
        const leaving = layer.target !== p.sheet;
        return told(`wires that would be kept ${leaving ? "out of" : "into"} each unit`, [p.layer, share], () => keptWires(layer, leaving, share));
      }
    }
    const into = p.value === "in", end = into ? layer.target : layer.source;
    const unit = probe(p.net, end, layer.units[into ? 1 : 0]);
    const text = `wires ${into ? "into" : "out of"} the unit at ${unitName(p.net, end, unit)}${end == null ? "" : ` of ${plain(end, 24)}`}`;
    return told(text, [p.layer, by, unit, by === "kept" && share], () => {
      const values = new Float32Array(n).fill(NaN);
      for (const one of wiresOf(layer, unit, into)) values[one.unit] = by === "kept" ? Number(one.rank > share) : one[by];
      return values;
    });
  }

  // Panels that have this in common share a scale.
  const scaleKey = (p) => (p.value === "in" || p.value === "out" ? `wires by ${by}` : p.value);

  // One scale for all panels that show the same, over all their classes and epochs, so that it never jumps.
  function scaleOf(p) {
    const same = shown().filter((q) => scaleKey(q) === scaleKey(p));
    const over = (pick) => union(same.map(pick)), layer = (q) => q.net.layers[q.layer];
    const most = max(...same.map((q) => layer(q)?.origin.shape[1] ?? 0)), classes = max(...same.map(classCount));
    const epochs = same.some((q) => meansIndex(sheetOf(q), null) != null);
    const scope = (...all) => {
      const parts = [same.length > 1 && "both maps", ...all].filter(Boolean);
      return parts.length ? `; one scale for ${parts.join(", ")}` : "";
    };
    const notShown = p.value === "in" ? `not among the ${several(most, "strongest wire")} into it` : "no wire from it among the strongest";
    const wired = (what, array) => ({ ...ramp(over((q) => [0, extent(layer(q)[array])[1]])), what: what + scope("all units"), empty: notShown });
    const all = classes > 1 && "all classes", kept = `if the layer kept the strongest ${percent(share)} of its wires`;
    switch (scaleKey(p)) {
      case "mean": return { ...ramp(over((q) => meansExtent(sheetOf(q)))), what: (all ? "class mean" : "mean response") + scope(all, epochs && "all epochs") };
      case "d": return { ...ramp(over((q) => extent(sheetOf(q).selectivity)), true), what: `selectivity d′${scope(all)}` };
      case "best": return { colours: TABLES.ten, names: range(classes).map((c) => plain(classText(c), 24)), what: "preferred class: the one with the largest d′", empty: "no preference" };
      case "r": {
        const held = min(...same.map((q) => sheetOf(q).held ??= heldBy(sheetOf(q).factors, layoutOf(q).n)));
        const about = held < 0.98 ? `, by factors that hold ${percent(held)} of the variance` : "";
        return { ...ramp([-1, 1], true), what: `${about ? "approximate " : ""}correlation over items${about}${scope()}` };
      }
      case "kept": return { ...ramp([0, max(most, ...same.map((q) => layer(q).target === q.sheet ? 0 : keptWires(layer(q), true, 1).reduce((a, b) => max(a, b), 0)))]), what: `number of wires that would be kept ${kept}, of the ${most} strongest into each unit` };
      case "wires by kept": return { colours: TABLES.kept, names: ["kept", "cut"], what: `wires ${kept}`, empty: notShown };
      case "wires by length": return wired("length of a wire", "distance");
      default: return wired("strength |V| of a wire", "weight");
    }
  }

  // when units that moved were where they are drawn, unless it is the epoch of the values
  function whereText(p) {
    const sheet = sheetOf(p);
    return sheet.epoch_xy && !(p.value === "mean" && sheet.epoch_means) ? `; places ${epochText(sheet.epochs[epochIndex(sheet, p.epoch)])}` : "";
  }
  const titleOf = (p, most = 40) => `${plain(p.net.name, most)}${p.net.seed == null ? "" : `, seed ${p.net.seed}`}: ${plain(p.sheet, most)}, ${shownOn(p).text}${whereText(p)}`;

  // Wires light up only where some layer runs between the two sheets.
  const between = () => panels.some((p) => Object.values(p.net.layers).some((layer) => layer.source === p.sheet && layer.target === otherOf(p).sheet));
  const linkNow = () => (link === "wires" && compare !== "one" && between() ? "wires" : "same");

  // The units of a panel that go with the unit in focus in the other panel: unit → weight of its outline.
  function linked(focus, there) {
    const here = focus.p, found = new Map();
    if (linkNow() === "same") return layoutOf(here).n === layoutOf(there).n ? found.set(focus.unit, 1.8) : found;
    for (const layer of Object.values(here.net.layers)) for (const into of [true, false]) {
      const [near, far] = into ? [layer.target, layer.source] : [layer.source, layer.target];
      if (near === here.sheet && far === there.sheet) for (const one of wiresOf(layer, focus.unit, into)) found.set(one.unit, one.rank <= share ? 1.4 : 0.5);
    }
    return found;
  }

  // The wires of the unit that a surface is coloured by, where both their ends are on the surface.
  function drawWires(pen, p, to, ratio) {
    const lay = layoutOf(p), into = p.value === "in", layer = p.net.layers[p.layer], end = layer?.[into ? "target" : "source"];
    if (!lay.surface || !(into || p.value === "out") || !has(p.net, end)) return;
    const there = layoutIn(p.net, end), unit = probe(p.net, end, there.n), most = extent(layer.weight)[1];
    if (there.surface !== lay.surface) return;
    turnTo(there, lay.turn);
    const at = (on, i) => on.at(i).map((x, k) => x * to.scale + (k ? to.dy : to.dx));
    for (const one of wiresOf(layer, unit, into)) for (const [rim, style] of [[1.5, "#fff9"], [0, "#111d"]]) {
      pen.beginPath();
      pen.moveTo(...at(there, unit));
      pen.lineTo(...at(lay, one.unit));
      pen.lineWidth = (rim + 0.4 + 1.4 * one.weight / most) * ratio;
      pen.strokeStyle = style;
      pen.globalAlpha = isFront(lay, one.unit) ? 1 : 0.3;
      pen.stroke();
    }
    pen.globalAlpha = 1;
  }

  function drawMarks(pen, p, to, ratio) {
    drawWires(pen, p, to, ratio);
    const focus = held ?? over, lay = layoutOf(p), mark = (unit, weight) => unit < lay.n && isFront(lay, unit) && drawMark(pen, lay, to, unit, weight, ratio);
    if (focus && focus.p !== p) linked(focus, p).forEach((weight, unit) => mark(unit, weight));
    if (held?.p === p) mark(held.unit, 2.5);
    if (over?.p === p && over.unit !== held?.unit) mark(over.unit, 1.2);
  }

  // -- controls
  const button = (textContent, onclick) => make("button", { type: "button", textContent, onclick });
  const updates = []; // what each control does when a setting has changed
  function chooser(label, whose, options, get, set, visible) {
    const onchange = () => { set(select.value); settle(); changed(); };
    const select = make("select", { ariaLabel: label + whose, onchange }), holder = make("label", {}, label, select);
    let filled = "";
    updates.push(() => {
      const all = options().map((one) => [one].flat()), signature = JSON.stringify(all);
      holder.hidden = !visible() || all.length < 2;
      if (filled !== signature) select.replaceChildren(...all.map(([value, text = value]) => named(make("option", { value }), text, 48)));
      filled = signature;
      select.value = get();
    });
    return holder;
  }
  // Controls are of one panel or of both, as a list.
  const whose = (of) => (of.length < 2 ? ` of map ${of[0].letter}` : ""), mine = (of, setting) => COMPARE[compare][1].includes(setting) === of.length < 2;
  const choosers = (of) => Object.entries(FIELDS).map(([name, { label, options, get, set }]) => {
    const [p] = of, other = otherOf(p), first = () => of.find((one) => options(one).length > 1) ?? p;
    return chooser(label, whose(of), () => options(first()), () => get(first()), (word) => {
      const before = get(p);
      for (const one of of) set(one, word);
      // two of a kind are never the same one: they change places
      if (of.length < 2 && compare !== "free" && compare !== "layer" && get(other) === get(p)) set(other, before);
    }, () => mine(of, name));
  });

  function sliderOf(name, range, moved) {
    const oninput = () => moved(Number(slider.value));
    const slider = make("input", { type: "range", ariaLabel: name, oninput, ...range }), text = make("span");
    const show = (value, words, whole) => { slider.value = value; text.textContent = whole; slider.ariaValueText = words; };
    return { slider, show, holder: make("label.slider", {}, text, slider) };
  }

  // Time: a slider over the kept epochs.
  const still = matchMedia("(prefers-reduced-motion: reduce)");
  function timeOf(of) {
    let timer = 0;
    const there = () => of.filter((p) => shown().includes(p) && hasEpochs(p));
    const epochs = () => distinct(there().flatMap((p) => sheetOf(p).epochs)).sort((a, b) => a - b);
    const at = () => max(epochs().findLastIndex((e) => e <= (there()[0].epoch ?? Infinity)), 0);
    const go = (i) => { for (const p of of) p.epoch = epochs()[i]; changed(); };
    const pause = () => { clearInterval(timer); timer = 0; };
    const next = () => { if (at() < epochs().length - 1) go(at() + 1); else pause(), changed(); };
    const { slider, show, holder } = sliderOf(`epoch${whose(of)}`, {}, (i) => { pause(); go(i); });
    const play = button("▶", () => {
      if (timer) return pause(), changed();
      if (!still.matches) timer = setInterval(next, 333); // with reduced motion, a press is one step
      if (at() < epochs().length - 1) next(); else go(0);
    });
    const time = make("div", { className: "time slider" }, play, holder);
    stop.signal.addEventListener("abort", pause);
    updates.push(() => {
      const all = epochs();
      time.hidden = !mine(of, "epoch") || all.length < 2;
      if (time.hidden) return pause();
      slider.max = all.length - 1;
      show(at(), epochText(all[at()]), `${epochText(all[at()])} (of ${all.at(-1)})`);
      play.textContent = timer ? "❚❚" : "▶";
      play.ariaLabel = (timer ? "Pause" : still.matches ? "Next epoch" : "Play the epochs") + whose(of);
    });
    return time;
  }

  function shareOf() {
    const words = "if only the layer's strongest wires are kept";
    const { show, holder } = sliderOf(words, { min: -3, max: 0, step: 0.05 }, (power) => { share = 10 ** power; changed(); });
    updates.push(() => {
      const cut = shown().some((p) => ["kept", "wires by kept"].includes(scaleKey(p)));
      holder.hidden = !cut && (linkNow() === "same" || share === 1);
      show(Math.log10(share), percent(share), `${words}: ${percent(share)}`);
    });
    return holder;
  }

  const controls = make("div.row", {},
    chooser("compare", "", () => choices.map((word) => [word, COMPARE[word][0]]), () => compare, setCompare, () => true), ...choosers(panels),
    chooser("wires by", "", () => Object.entries(BY), () => by, (word) => { by = word; }, () => shown().some((p) => scaleKey(p).startsWith("wires"))),
    chooser("link to the other map", "", () => [["same", "the same unit"], ["wires", "units wired to it"]], () => link, (word) => { link = word; }, () => compare !== "one" && between()),
    timeOf(panels), shareOf());
  const common = make("div", { className: "legend shared" });
  for (const p of panels) {
    Object.assign(p, {
      own: make("div.row", {}, ...choosers([p]), timeOf([p])), mark: make("b", {}, p.letter), name: make("span"),
      legend: make("div.legend"), status: make("p.status", { role: "status" }), told: make("div.unit"),
      canvas: make("canvas", { tabIndex: 0, role: "application", ariaRoleDescription: "map" }),
      base: new OffscreenCanvas(1, 1),
    });
    p.canvas.setAttribute("aria-describedby", "help");
    p.holder = make("section.panel", { ariaLabel: `map ${p.letter}` }, p.own, make("p", {}, p.mark, p.name), p.legend, p.canvas, p.status, p.told);
  }
  const panelRow = make("div.panels", {}, ...panels.map((p) => p.holder));
  frame.append(named(make("h3", { hidden: !description.title }), description.title, 120), controls, common, panelRow, make("p.note", { id: "help", textContent: HELP }),
    make("div.row", {}, button("Save picture (PNG)", savePicture), button("Save numbers (CSV)", saveNumbers)),
    named(make("p.note", { hidden: !description.note }), description.note, 600));

  // -- drawing: once for each frame; controls only when a setting has changed
  let scheduled = 0, stale = true;
  function redraw() { scheduled ||= requestAnimationFrame(draw); }
  function changed() { stale = true; redraw(); }

  function updateControls() {
    for (const update of updates) update();
    panelRow.classList.toggle("one", compare === "one");
    panels[1].holder.hidden = panels[0].mark.hidden = compare === "one";
    for (const p of panels) {
      p.own.hidden = [...p.own.children].every((child) => child.hidden);
      p.told.style.minHeight = "";
    }
  }

  function updateLegend(element, scale, ...rest) {
    const legend = legendOf(scale, ...rest), { what, ticks, keys } = legend, signature = JSON.stringify(legend);
    if (element.told === signature) return;
    element.told = signature;
    const stops = range(33).map((i) => css(scale.colours[round(i * 255 / 32)]));
    const bar = make("span.bar", {}, make("i", { style: `background:linear-gradient(90deg,${stops})` }), make("span", {}, ...ticks.map((t) => make("span", {}, t))));
    element.replaceChildren(make("span.what", {}, what), ...(ticks.length ? [bar] : []),
      ...keys.map(([fill, text]) => make("span.key", {}, make("i", fill ? { style: `background:${fill}` } : { className: "hatch" }), text)));
  }

  // A notebook's theme goes first; off a page there is none.
  function isDark() {
    const light = document.body.dataset.jpThemeLight;
    frame.style.colorScheme = { true: "light", false: "dark" }[light] ?? "";
    const [r, g, b] = getComputedStyle(frame).color.match(/[\d.]+/g) ?? "";
    return 0.3 * r + 0.6 * g + 0.1 * b > 128;
  }

  function resize(p) {
    const ratio = min(devicePixelRatio || 1, 3), wide = p.holder.clientWidth, tall = wide * aspectOf(layoutOf(p));
    const w = round(wide * ratio), h = round(tall * ratio);
    if (p.w === w && p.h === h) return;
    Object.assign(p, { w, h, ratio });
    p.canvas.style.height = `${tall}px`;
    p.canvas.width = p.base.width = w;
    p.canvas.height = p.base.height = h;
  }

  // What a panel's picture is made of; values and colours are made again only where they have changed.
  function stateOf(p) {
    const now = shownOn(p), scale = scaleOf(p), lay = layoutOf(p);
    if (p.values?.key !== now.key) p.values = { key: now.key, list: now.values() };
    const values = p.values.list, key = [now.key, scale.low, scale.high, scale.names?.length].join("|");
    if (p.picture?.key !== key) {
      const colours = coloured(values, scale);
      p.picture = { key, holes: colours.includes(0), colours, tiles: lay.kind === "cells" ? textures(lay, colours) : [] };
    }
    return { p, values, scale, lay, picture: p.picture, title: titleOf(p) };
  }

  // Panels with one scale have one legend: [its element, the scale, whether there are units without a value, and parts of
  // a surface without a unit].
  const isShared = () => compare === "one" || scaleKey(panels[0]) === scaleKey(panels[1]);
  const legends = (states) => (isShared() ? [[common, states[0].scale, states.some(({ picture }) => picture.holes), states.some(({ lay }) => lay.bare)]]
    : states.map(({ p, scale, picture, lay }) => [p.legend, scale, picture.holes, lay.bare]));

  function draw() {
    scheduled = 0;
    if (stale) updateControls();
    const dark = isDark(), states = shown().map(stateOf);
    common.hidden = !isShared();
    panels.forEach((p) => { p.legend.hidden = isShared(); });
    for (const told of legends(states)) updateLegend(...told);
    for (const state of states) {
      const { p, lay, picture, title } = state, view = viewOf(p), pen = p.canvas.getContext("2d");
      if (p.name.textContent !== title) Object.assign(p.name, { textContent: title, title: titleOf(p, 300) });
      p.canvas.ariaLabel = title;
      p.canvas.style.touchAction = view.zoom > (lay.first?.zoom ?? 1) ? "none" : "pan-y";
      updateUnit(state);
      resize(p);
      if (!p.w || !p.h) continue;
      // a surface that turns is drawn less finely
      const to = projected(p), fine = lay.surface && !view.turning && p.ratio < 2 ? 2 : 1;
      const key = [picture.key, p.w, p.h, to.scale, to.dx, to.dy, dark, view.turn, fine, sheetOf(p).epoch_xy && epochIndex(sheetOf(p), p.epoch)].join("|");
      if (p.drawn !== key) drawSheet(p.base.getContext("2d"), lay, to, picture, dark, p.ratio, fine);
      p.drawn = key;
      pen.clearRect(0, 0, p.w, p.h);
      pen.drawImage(p.base, 0, 0);
      drawMarks(pen, p, to, p.ratio);
    }
    if (stale) performance.mark("explorer:drawn");
    stale = false;
  }

  // -- the unit in focus
  function updateUnit({ p, values, scale, lay, picture }) {
    const focus = over ?? held, here = focus?.p === p;
    const unit = here || (focus && linkNow() === "same" && linked(focus, p).size) ? focus.unit : null;
    const isHeld = here && held?.p === p && held.unit === unit;
    const state = JSON.stringify([unit, focus?.unit, isHeld, picture.key, p.epoch, share, link]);
    if (p.telling === state) return;
    p.telling = state;
    const rows = [], line = (textContent, tag = "p") => rows.push(make(tag, { textContent }));
    if (unit == null) p.status.textContent = focus && linkNow() === "wires" ? `wired to ${several(linked(focus, p).size, "unit")}` : "";
    else {
      const step = { mean: meansAt(sheetOf(p), p.epoch)[0].step, r: 0.01, kept: 1 }[p.value] ?? 0;
      const text = (v) => (isNaN(v) ? scale.empty ?? "no value" : scale.names ? scale.names[v] : number(v, step));
      p.status.textContent = `${placeOf(lay, unit)}: ${text(values[unit])}${isHeld ? " (pinned)" : ""}`;
      const around = neighbours(lay, unit).map((i) => values[i]).filter((v) => !isNaN(v)), of = several(around.length, "neighbour");
      const alike = scale.names ? `${around.filter((v) => v === values[unit]).length} of ${of} alike` : `mean of ${of} ${number(around.reduce((a, b) => a + b, 0) / around.length, step)}`;
      line(`unit ${unit}${around.length ? `; ${alike}` : ""}`);
      const classes = classCount(p), e = p.value === "mean" ? meansIndex(sheetOf(p), p.epoch) : null;
      const trained = e == null || e === sheetOf(p).epochs.length - 1;
      if (classes > 1) {
        line((classes > 12 ? `Largest of ${classes} class means` : "Class means") + (trained ? "" : `, ${epochText(sheetOf(p).epochs[e])}`), "h4");
        rows.push(tuning(p, unit));
      }
      for (const into of [true, false]) for (const name of layersAt(p.net, p.sheet, into)) {
        const layer = p.net.layers[name], wires = wiresOf(layer, unit, into), end = into ? layer.source : layer.target;
        line(`Strongest wires ${into ? "in" : "out"}: ${plain(name, 24)}${trained ? "" : ", after training"}`, "h4");
        if (!wires.length) line("none among those shown");
        else rows.push(make("table", {}, wireRow("th", into ? "from" : "to", "|V|", "length"), ...wires.slice(0, 5).map((one) =>
          Object.assign(wireRow("td", unitName(p.net, end, one.unit), number(one.weight), number(one.length)), { className: one.rank <= share ? "" : "cut" }))));
      }
    }
    p.told.replaceChildren(...rows);
    // what is below stays where it is when a unit has less to tell
    p.told.style.minHeight = `${max(p.told.offsetHeight, parseFloat(p.told.style.minHeight) || 0)}px`;
  }

  // A unit's class means as bars; of many classes, those with the largest.
  function tuning(p, unit) {
    const [array, first] = meansAt(sheetOf(p), p.value === "mean" ? p.epoch : null), { low, high } = ramp(meansExtent(sheetOf(p))), n = layoutOf(p).n;
    let all = range(classCount(p)).map((c) => [c, array.at((first + c) * n + unit)]);
    if (all.length > 12) all = all.filter(([, v]) => !isNaN(v)).sort((a, b) => b[1] - a[1]).slice(0, 10);
    return make("table.tune", {}, ...all.map(([c, value]) => {
      const long = 100 * abs(value) / (high - low), from = 100 * min(value, 0) / (high - low) - 100 * low / (high - low);
      const bar = make("i", { style: isNaN(value) ? "visibility:hidden" : `width:${long}%;margin-left:${from}%` });
      return make("tr", { className: hasClass(p) && c === p.cls ? "now" : "" }, named(make("td"), classText(c), 24), make("td", {}, bar), make("td.n", {}, number(value, array.step)));
    }));
  }

  const wireRow = (tag, ...texts) => make("tr", {}, ...texts.map((textContent, i) => make(tag, { textContent, className: i ? "n" : "" })));

  // -- pointer and keys
  function point(p, unit) {
    if (over?.p === p ? over.unit === unit : unit == null) return;
    over = unit == null ? null : { p, unit };
    if (over) lastOn.set(p.sheet, unit);
    redraw();
  }
  function hold(p, unit) {
    held = unit == null || (held?.p === p && held.unit === unit) ? null : { p, unit };
    redraw();
  }
  const projected = (p) => projection(layoutOf(p), viewOf(p), p.w, p.h);
  // What is at x, y in the canvas stays there.
  function zoomBy(p, factor, x = p.w / 2, y = p.h / 2) {
    const lay = layoutOf(p), view = viewOf(p), before = projected(p);
    view.zoom = clamp(view.zoom * factor, 1, max((lay.box[2] - lay.box[0]) / (8 * lay.radius), 1));
    const { scale } = projected(p);
    view.x = (x - before.dx) / before.scale + (p.w / 2 - x) / scale;
    view.y = (y - before.dy) / before.scale + (p.h / 2 - y) / scale;
    redraw();
  }
  function panBy(p, dx, dy) {
    const view = viewOf(p), { scale } = projected(p), lay = layoutOf(p);
    if (lay.surface) {
      // units that are seen alone stay in the middle
      const far = (i) => hypot(lay.xs[i] - view.x, lay.ys[i] - view.y), first = (best, i) => (isFront(lay, i) && !(far(best) <= far(i)) ? i : best);
      const middle = view.zoom > 2 ? range(lay.n).reduce(first, -1) : -1, x = lay.xs[middle], y = lay.ys[middle];
      turnTo(lay, view.turn = turnedBy(view.turn, 2.5 * dx / p.w, 2.5 * dy / p.w));
      if (middle >= 0) view.x += lay.xs[middle] - x, view.y += lay.ys[middle] - y;
    } else view.x -= dx / scale, view.y -= dy / scale;
    redraw();
  }
  // Keep the unit that the keys have moved to inside the canvas.
  function follow(p, unit) {
    const { scale, dx, dy } = projected(p), [ux, uy] = layoutOf(p).at(unit), edge = min(p.w, p.h) / 10, x = ux * scale + dx, y = uy * scale + dy;
    const lay = layoutOf(p), near = 0.2 * p.w;
    if (lay.surface) { if (lay.facing[lay.vertex[unit]] < 0.35) panBy(p, x < p.w / 2 ? near : -near, y < p.h / 2 ? near : -near); }
    else if (viewOf(p).zoom > 1) panBy(p, clamp(x, edge, p.w - edge) - x, clamp(y, edge, p.h - edge) - y);
  }

  const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
  for (const p of panels) {
    const touches = new Map();
    let down = null, dragged = false, spread = 0;
    const pixel = (event) => {
      const box = p.canvas.getBoundingClientRect();
      return [(event.clientX - box.left) * p.w / box.width, (event.clientY - box.top) * p.h / box.height];
    };
    const unitUnder = (event) => {
      const [x, y] = pixel(event), { scale, dx, dy } = projected(p);
      return unitAt(layoutOf(p), (x - dx) / scale, (y - dy) / scale, 6 * p.ratio / scale);
    };
    const on = (types, act) => { for (const type of types.split(" ")) p.canvas.addEventListener(type, act, { passive: false }); };
    on("pointerdown", (event) => {
      if (event.button) return;
      down = pixel(event);
      touches.set(event.pointerId, down);
      dragged = touches.size > 1, spread = 0;
      p.canvas.setPointerCapture(event.pointerId);
    });
    on("pointermove", (event) => {
      const now = pixel(event), before = touches.get(event.pointerId);
      if (!before) return point(p, unitUnder(event));
      touches.set(event.pointerId, now);
      if (touches.size === 2) {
        const [a, b] = touches.values(), apart = hypot(a[0] - b[0], a[1] - b[1]);
        if (spread) zoomBy(p, apart / spread, (a[0] + b[0]) / 2, (a[1] + b[1]) / 2);
        spread = apart;
      } else if (dragged ||= hypot(now[0] - down[0], now[1] - down[1]) > 4 * p.ratio) {
        viewOf(p).turning = true;
        panBy(p, now[0] - before[0], now[1] - before[1]);
      }
    });
    on("pointerup pointercancel", (event) => {
      if (!touches.delete(event.pointerId)) return;
      spread = 0;
      viewOf(p).turning = false;
      if (event.type === "pointercancel" || dragged) return redraw();
      point(p, unitUnder(event));
      hold(p, unitUnder(event));
    });
    on("pointerleave", () => touches.size || point(p, null));
    on("wheel", (event) => {
      const outermost = event.deltaY > 0 && viewOf(p).zoom <= 1;
      if (outermost || !(event.ctrlKey || event.metaKey || root.activeElement === p.canvas)) return; // the page scrolls
      event.preventDefault();
      zoomBy(p, Math.exp(-clamp(event.deltaMode ? 30 * event.deltaY : event.deltaY, -100, 100) / (event.ctrlKey ? 80 : 250)), ...pixel(event));
    });
    on("keydown", (event) => {
      if (event.ctrlKey || event.metaKey || event.altKey) return;
      const lay = layoutOf(p), arrow = ARROWS[event.key], { key } = event;
      const last = [over, held].find((one) => one?.p === p)?.unit ?? lastOn.get(p.sheet), known = last < lay.n, here = known ? last : middleOf(lay);
      if (arrow && event.shiftKey) panBy(p, -arrow[0] * p.w / 8, -arrow[1] * p.h / 8);
      else if (arrow) {
        const unit = known ? step(lay, here, ...arrow) : here;
        point(p, unit);
        follow(p, unit);
      } else if (key === "Enter" || key === " ") point(p, here), hold(p, here);
      else if (key === "Escape") { if (held) hold(p, null); else point(p, null); }
      else if (key === "+" || key === "=") zoomBy(p, 1.5);
      else if (key === "-") zoomBy(p, 1 / 1.5);
      else if (key === "0") Object.assign(viewOf(p), lay.first), zoomBy(p, 0);
      else return;
      event.preventDefault();
    });
  }

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
    const lines = [["unit", ...places.flatMap((lay, k) => (lay.surface ? ["vertex"] : lay.rows ? ["column", "row"] : ["x", "y"]).map((axis) => letter(k, places) + axis)),
      ...states.map((_, k) => letter(k, states) + titleOf(panels[k], 200))]];
    // a 32-bit number has seven digits at most
    const value = ({ values, scale }, i) => (scale.names ? scale.names[values[i]] ?? "" : Number((values[i] ?? NaN).toPrecision(5)));
    for (let i = 0; i < max(...lays.map(({ n }) => n)); i++) {
      lines.push([i, ...places.flatMap((lay) => (i < lay.n ? numbersOf(lay, i) : lay.surface ? [""] : ["", ""])), ...states.map((state) => value(state, i))]);
    }
    save(new Blob(lines.map((line) => `${line.map(quoted).join(",")}\r\n`), { type: "text/csv" }), "csv");
  }

  // The maps with their titles and legends on one canvas, at twice the size.
  function savePicture() {
    const states = shown().map(stateOf), dark = isDark(), ratio = 2, wide = 460, edge = 16, gap = 28, tall = wide * max(...states.map(({ lay }) => aspectOf(lay)));
    const across = 2 * edge + states.length * (wide + gap) - gap, down = tall + (states.some(({ scale, picture, lay }) => scale.names || picture.holes || lay.bare) ? 124 : 104);
    const canvas = make("canvas", { width: ratio * across, height: ratio * down }), pen = canvas.getContext("2d"), left = (k) => edge + k * (wide + gap);
    const text = (words, x, y, most, weight = 400) => {
      pen.font = `${weight} 12px system-ui, sans-serif`;
      pen.fillStyle = dark ? "#ececee" : "#1d1d1f";
      pen.fillText(words, x, y, most);
    };
    pen.scale(ratio, ratio);
    pen.textBaseline = "top";
    pen.fillStyle = dark ? "#1c1c1e" : "#fff";
    pen.fillRect(0, 0, across, down);
    states.forEach(({ p, lay, picture, title }, k) => {
      const high = wide * aspectOf(lay), base = new OffscreenCanvas(ratio * wide, round(ratio * high)), inner = base.getContext("2d");
      const to = projection(lay, { ...viewOf(p) }, base.width, base.height), indent = states.length > 1 ? 16 : 0;
      if (indent) text(p.letter, left(k), edge, indent, 700);
      text(plain(title, 100), left(k) + indent, edge, wide - indent);
      drawSheet(inner, lay, to, picture, dark, ratio);
      drawMarks(inner, p, to, ratio);
      pen.drawImage(base, left(k), 40, wide, high);
    });
    legends(states).forEach(([, ...told], k) => {
      const [scale] = told, { what, ticks, keys } = legendOf(...told), bar = 240;
      let x = left(k), y = tall + 70;
      text(what, x, tall + 50, wide);
      if (ticks.length) {
        for (let i = 0; i < bar; i++) pen.fillStyle = css(scale.colours[floor(i * 256 / bar)]), pen.fillRect(x + i, y, 1, 10);
        ticks.forEach((tick, i) => { pen.textAlign = ["left", "center", "right"][i]; text(tick, x + i * bar / 2, y + 13); });
        pen.textAlign = "left";
        y += 34;
      }
      for (const [fill, words] of keys) {
        const long = 17 + pen.measureText(words).width;
        if (x > left(k) && x + long > left(k) + wide) x = left(k), y += 18;
        pen.fillStyle = fill ?? hatch(dark, 1);
        pen.fillRect(x, y, 11, 11);
        text(words, x + 17, y - 1);
        x += long + 14;
      }
    });
    canvas.toBlob((blob) => blob && save(blob, "png"));
  }

  // -- life
  const resized = new ResizeObserver(redraw);
  setCompare(choices[0]);
  resized.observe(frame);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw, { signal: stop.signal });
  draw();
  return {
    destroy() {
      stop.abort();
      resized.disconnect();
      cancelAnimationFrame(scheduled);
      root.replaceChildren();
    },
  };
}

// ---- doors ----

// A notebook's widget: the description and the data are traits, and a new description is a new view.
function render({ model, el }) {
  const host = make("div");
  host.dataset.lmSuppressShortcuts = ""; // keys are the explorer's, not the notebook's
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
