// Drawing shapes over a picture, as `fnbuild invoke --draw` does (fnbuild/cvat/drawing.py).
//
// The context takes coordinates of the picture; `unit` is how many of its pixels a line of the
// screen is wide, so that lines and names keep their size at every zoom.

import { picture } from "./masks.js";
import { bounds, colourAt, colourOf, extent, outline, pairs } from "./shapes.js";

const DARK = "rgb(16 18 22)";
export const POSITIVE = [0, 200, 90];
export const NEGATIVE = [240, 40, 50];
const WHITE = [255, 255, 255];

// The edges of CVAT's cuboid: left front, right front, right back, left back, each top then bottom.
const CUBOID_EDGES = [
  [0, 1],
  [2, 3],
  [4, 5],
  [6, 7],
  [0, 2],
  [2, 4],
  [4, 6],
  [6, 0],
  [1, 3],
  [3, 5],
  [5, 7],
  [7, 1],
];
const CUBOID_FRONT = [0, 1, 3, 2];

export const css = ([red, green, blue], opacity = 1) => `rgb(${red} ${green} ${blue} / ${opacity})`;

// A mask's picture is made once for each colour.
const masks = new WeakMap();

function maskPicture(mask, colour) {
  const cached = masks.get(mask);
  if (cached?.colour === colour) return cached.canvas;
  const canvas = picture(mask, colour);
  masks.set(mask, { colour, canvas });
  return canvas;
}

/**
 * Draw shapes, the largest first, and their names on top.
 *
 * `marked` is a shape to show more strongly. A shape without a label has the colour of its `index`
 * if it has one.
 */
export function drawShapes(context, shapes, { unit, labels = [], marked = null, names = true }) {
  const pen = new Pen(context, unit);
  const placed = [...shapes].sort((a, b) => extent(b) - extent(a));
  for (const shape of placed) drawShape(pen, shape, inkOf(shape, labels), labels, shape === marked);
  if (!names) return;
  const captions = [];
  for (const shape of placed) if (shape.type === "skeleton") namePoints(pen, shape, captions);
  const plates = [];
  for (const shape of placed) nameShape(pen, shape, inkOf(shape, labels), plates);
}

const inkOf = (shape, labels) =>
  shape.label || shape.index === undefined ? colourOf(shape.label, labels) : colourAt(shape.index);

function drawShape(pen, shape, ink, labels, marked) {
  const corners = outline(shape);
  const lineWidth = marked ? 1.8 : 1;
  if (shape.type === "mask") {
    const { left, top } = shape.mask;
    pen.context.imageSmoothingEnabled = false;
    pen.context.drawImage(maskPicture(shape.mask, ink), left, top);
  } else if (shape.type === "skeleton") drawSkeleton(pen, shape, ink, labels, lineWidth);
  else if (shape.type === "points") pen.dots(corners, ink, 4.4 * lineWidth);
  else if (shape.type === "polyline") {
    pen.stroke(corners, ink, false, lineWidth);
    pen.dots(corners, ink, 3);
  } else if (shape.type === "cuboid") {
    pen.area(
      CUBOID_FRONT.map((i) => corners[i]),
      ink,
      0.22,
    );
    for (const [start, stop] of CUBOID_EDGES)
      pen.stroke([corners[start], corners[stop]], ink, false, lineWidth);
  } else if (corners.length) {
    pen.area(corners, ink, (shape.type === "polygon" ? 0.28 : 0.14) * lineWidth);
    pen.stroke(corners, ink, true, lineWidth);
  }
}

function drawSkeleton(pen, shape, ink, labels, lineWidth) {
  const places = new Map();
  for (const element of shape.elements)
    if (!element.outside) places.set(element.label, element.points.slice(0, 2));
  const edges = labels.find((label) => label.name === shape.label)?.edges ?? [];
  for (const [start, stop] of edges) {
    if (places.has(start) && places.has(stop))
      pen.stroke([places.get(start), places.get(stop)], ink, false, lineWidth);
  }
  pen.dots([...places.values()], ink, 3.4 * lineWidth);
}

// The names of a skeleton's points, where it is large enough for them.
function namePoints(pen, shape, captions) {
  const [left, top, right, bottom] = bounds(shape) ?? [0, 0, 0, 0];
  if (Math.max(right - left, bottom - top) < 60 * pen.unit) return;
  for (const element of shape.elements)
    if (!element.outside) pen.caption(element.label, element.points, captions);
}

function nameShape(pen, shape, ink, plates) {
  const title = [shape.label, shape.confidence === null ? "" : shape.confidence.toFixed(2)]
    .filter(Boolean)
    .join(" ");
  const text = [title, ...(shape.attributes ?? []).map(([name, value]) => `${name}: ${value}`)]
    .filter(Boolean)
    .join(" · ");
  if (!text) return;
  if (shape.type === "tag") {
    pen.plate(text, [8 * pen.unit, 8 * pen.unit], ink, plates, false);
    return;
  }
  const around = bounds(shape);
  if (!around) return;
  // A turned shape has its name over its highest corner.
  const anchor = shape.rotation ? outline(shape).reduce((a, b) => (b[1] < a[1] ? b : a)) : around;
  const lift = ["points", "skeleton"].includes(shape.type) ? 6 * pen.unit : 0;
  pen.plate(text, [anchor[0], anchor[1] - lift], ink, plates, true);
}

/** What a person gave: clicks, boxes, and corners of a polygon that is not closed yet. */
export function drawPrompts(context, { pos = [], neg = [], boxes = [], corners = [] }, unit) {
  const pen = new Pen(context, unit);
  for (const [left, top, right, bottom] of boxes) {
    pen.stroke(
      [
        [left, top],
        [right, top],
        [right, bottom],
        [left, bottom],
      ],
      WHITE,
      true,
    );
  }
  if (corners.length > 1) pen.stroke(corners, WHITE, false);
  pen.dots(corners, WHITE, 4);
  pen.dots(pos, POSITIVE, 6);
  pen.dots(neg, NEGATIVE, 6);
  for (const anchor of neg) pen.tick(anchor, 3.2);
  for (const anchor of pos) {
    pen.tick(anchor, 3.2);
    pen.tick(anchor, 3.2, true);
  }
}

/** Lines, dots and plates in units of the screen. */
class Pen {
  constructor(context, unit) {
    this.context = context;
    this.unit = unit;
    context.lineJoin = "round";
    context.lineCap = "round";
  }

  path(points, closed) {
    this.context.beginPath();
    points.forEach(([x, y], i) => (i ? this.context.lineTo(x, y) : this.context.moveTo(x, y)));
    if (closed) this.context.closePath();
  }

  /** A line with a soft dark rim, so that it shows on bright and on dark ground. */
  stroke(points, ink, closed = false, lineWidth = 1) {
    this.path(points, closed);
    this.context.lineWidth = 4 * lineWidth * this.unit;
    this.context.strokeStyle = "rgb(16 18 22 / 0.35)";
    this.context.stroke();
    this.context.lineWidth = 2 * lineWidth * this.unit;
    this.context.strokeStyle = css(ink);
    this.context.stroke();
  }

  area(points, ink, opacity) {
    this.path(points, true);
    this.context.fillStyle = css(ink, Math.min(opacity, 1));
    this.context.fill();
  }

  dots(points, ink, radius) {
    for (const [x, y] of points) {
      for (const [factor, fill] of [
        [1.45, "rgb(16 18 22 / 0.35)"],
        [1.2, "white"],
        [0.85, css(ink)],
      ]) {
        this.context.beginPath();
        this.context.arc(x, y, radius * factor * this.unit, 0, 2 * Math.PI);
        this.context.fillStyle = fill;
        this.context.fill();
      }
    }
  }

  /** A short white line within a dot. */
  tick([x, y], length, upright = false) {
    const factor = length * this.unit;
    this.path(
      upright
        ? [
            [x, y - factor],
            [x, y + factor],
          ]
        : [
            [x - factor, y],
            [x + factor, y],
          ],
      false,
    );
    this.context.lineWidth = 1.6 * this.unit;
    this.context.strokeStyle = "white";
    this.context.stroke();
  }

  /** A small text beside a place, light with a dark rim, if there is room between the others. */
  caption(text, [x, y], captions) {
    const { context, unit } = this;
    context.font = `600 ${10 * unit}px system-ui, "Noto Sans", "DejaVu Sans", sans-serif`;
    const [textWidth, textHeight, gap] = [context.measureText(text).width, 10 * unit, 7 * unit];
    const corners = [
      [x + gap, y - textHeight / 2],
      [x - gap - textWidth, y - textHeight / 2],
      [x - textWidth / 2, y - gap - textHeight],
      [x - textWidth / 2, y + gap],
    ];
    const visible = this.inView(corners, textWidth, textHeight, gap);
    const position = (visible.length ? visible : corners).find(
      ([l, t]) =>
        !captions.some(
          (element) =>
            l < element[0] + element[2] &&
            element[0] < l + textWidth &&
            t < element[1] + textHeight &&
            element[1] < t + textHeight,
        ),
    );
    if (!position) return;
    captions.push([...position, textWidth]);
    const [left, middle] = [position[0], position[1] + textHeight / 2];
    context.textBaseline = "middle";
    context.lineWidth = 3 * unit;
    context.strokeStyle = DARK;
    context.strokeText(text, left, middle);
    context.fillStyle = "white";
    context.fillText(text, left, middle);
  }

  /** Places for a text at an edge of the canvas, moved in; without those where it would cover its point. */
  inView(places, across, down, gap) {
    const { a, d, e, f } = this.context.getTransform();
    const { width, height } = this.context.canvas;
    const [left, top] = [-e / a, -f / d];
    const [right, bottom] = [left + width / a - across, top + height / d - down];
    return places
      .filter(([x, y]) => x >= left - gap && x <= right + gap && y >= top - down && y <= bottom + down)
      .map(([x, y]) => [Math.min(Math.max(left, x), right), Math.min(Math.max(top, y), bottom)]);
  }

  /** Text on a plate above a place, or where it fits and covers no other. */
  plate(text, [x, y], ink, plates, above) {
    const { context, unit } = this;
    context.font = `600 ${12 * unit}px system-ui, "Noto Sans", "DejaVu Sans", sans-serif`;
    const textWidth = context.measureText(text).width + 10 * unit;
    const textHeight = 18 * unit;
    const rows = above ? [y - textHeight - unit, y + 2 * unit] : [y];
    for (let i = 1; i < 10; i += 1) rows.push(y + 2 * unit + textHeight * i);
    const freeRows = rows.filter((row) => row >= 0);
    const covers = (row) =>
      plates.some(([l, t, w, h]) => x < l + w && l < x + textWidth && row < t + h && t < row + textHeight);
    const top = freeRows.find((row) => !covers(row)) ?? freeRows[0] ?? 0;
    const left = Math.max(0, x - unit);
    plates.push([left, top, textWidth, textHeight]);
    context.beginPath();
    context.roundRect(left, top, textWidth, textHeight, 4 * unit);
    context.fillStyle = css(ink);
    context.fill();
    const bright = 0.299 * ink[0] + 0.587 * ink[1] + 0.114 * ink[2] > 140;
    context.fillStyle = bright ? DARK : "white";
    context.textBaseline = "middle";
    context.fillText(text, left + 5 * unit, top + textHeight / 2 + 0.5 * unit);
  }
}
