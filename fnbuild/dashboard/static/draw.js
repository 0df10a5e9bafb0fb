// Drawing of shapes over a picture, as `fnbuild invoke --draw` does (fnbuild/cvat/drawing.py).
//
// The context has the coordinates of the picture; `unit` is the width of a pixel of the screen there, so that
// lines and names keep their size at every zoom.

import { maskCanvas } from "./masks.js";
import { bounds, extent, outline, shapeColour } from "./shapes.js";

const DARK = "rgb(16 18 22)";
const POSITIVE = [0, 200, 90];
const NEGATIVE = [240, 40, 50];
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

/** @param {Colour} colour */
export const css = ([red, green, blue], opacity = 1) => `rgb(${red} ${green} ${blue} / ${opacity})`;

/**
 * The last drawing of each mask.
 *
 * @type {WeakMap<Mask, {colour: Colour, canvas: HTMLCanvasElement}>}
 */
const masks = new WeakMap();

/**
 * @param {Mask} mask
 * @param {Colour} colour
 */
function cachedMaskCanvas(mask, colour) {
  const cached = masks.get(mask);
  if (cached?.colour === colour) return cached.canvas;
  const canvas = maskCanvas(mask, colour);
  masks.set(mask, { colour, canvas });
  return canvas;
}

/**
 * Draw shapes, the largest first, and their names on top. `marked` is a shape to highlight. A shape without
 * a label has the colour of its `index`, if it has one.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {Shape[]} shapes
 * @param {{unit: number, labels?: Label[], marked?: Shape | null}} options
 */
export function drawShapes(context, shapes, { unit, labels = [], marked = null }) {
  const pen = new Pen(context, unit);
  const ordered = [...shapes].sort((a, b) => extent(b) - extent(a));
  for (const shape of ordered) drawShape(pen, shape, shapeColour(shape, labels), labels, shape === marked);
  /** @type {Box[]} */
  const captions = [];
  for (const shape of ordered) if (shape.type === "skeleton") namePoints(pen, shape, captions);
  /** @type {Box[]} */
  const plates = [];
  for (const shape of ordered) nameShape(pen, shape, shapeColour(shape, labels), plates);
}

/**
 * @param {Pen} pen
 * @param {Shape} shape
 * @param {Colour} colour
 * @param {Label[]} labels
 * @param {boolean} marked
 */
function drawShape(pen, shape, colour, labels, marked) {
  const corners = outline(shape);
  const lineWidth = marked ? 1.8 : 1;
  if (shape.mask) {
    pen.context.imageSmoothingEnabled = false;
    pen.context.drawImage(cachedMaskCanvas(shape.mask, colour), shape.mask.left, shape.mask.top);
  } else if (shape.type === "skeleton") drawSkeleton(pen, shape, colour, labels, lineWidth);
  else if (shape.type === "points") pen.dots(corners, colour, 4.4 * lineWidth);
  else if (shape.type === "polyline") {
    pen.stroke(corners, colour, false, lineWidth);
    pen.dots(corners, colour, 3);
  } else if (shape.type === "cuboid") {
    pen.area(
      CUBOID_FRONT.map((i) => corners[i]),
      colour,
      0.22,
    );
    for (const [start, stop] of CUBOID_EDGES)
      pen.stroke([corners[start], corners[stop]], colour, false, lineWidth);
  } else if (corners.length) {
    pen.area(corners, colour, (shape.type === "polygon" ? 0.28 : 0.14) * lineWidth);
    pen.stroke(corners, colour, true, lineWidth);
  }
}

/**
 * @param {Pen} pen
 * @param {Shape} shape
 * @param {Colour} colour
 * @param {Label[]} labels
 * @param {number} lineWidth
 */
function drawSkeleton(pen, shape, colour, labels, lineWidth) {
  const positions = new Map();
  for (const element of shape.elements)
    if (!element.outside) positions.set(element.label, element.points.slice(0, 2));
  const edges = labels.find((label) => label.name === shape.label)?.edges ?? [];
  for (const [start, stop] of edges) {
    if (positions.has(start) && positions.has(stop))
      pen.stroke([positions.get(start), positions.get(stop)], colour, false, lineWidth);
  }
  pen.dots([...positions.values()], colour, 3.4 * lineWidth);
}

/**
 * Draw the names of a skeleton's points if it is large enough.
 *
 * @param {Pen} pen
 * @param {Shape} shape
 * @param {Box[]} captions
 */
function namePoints(pen, shape, captions) {
  const [left, top, right, bottom] = bounds(shape) ?? [0, 0, 0, 0];
  if (Math.max(right - left, bottom - top) < 60 * pen.unit) return;
  for (const element of shape.elements)
    if (!element.outside) pen.caption(element.label, element.points, captions);
}

/**
 * @param {Pen} pen
 * @param {Shape} shape
 * @param {Colour} colour
 * @param {Box[]} plates
 */
function nameShape(pen, shape, colour, plates) {
  const title = [shape.label, shape.confidence === null ? "" : shape.confidence.toFixed(2)]
    .filter(Boolean)
    .join(" ");
  const text = [title, ...(shape.attributes ?? []).map(([name, value]) => `${name}: ${value}`)]
    .filter(Boolean)
    .join(" · ");
  if (!text) return;
  if (shape.type === "tag") {
    pen.plate(text, [8 * pen.unit, 8 * pen.unit], colour, plates, false);
    return;
  }
  const around = bounds(shape);
  if (!around) return;
  // A turned shape has its name over its highest corner.
  const anchor = shape.rotation ? outline(shape).reduce((a, b) => (b[1] < a[1] ? b : a)) : around;
  const lift = ["points", "skeleton"].includes(shape.type) ? 6 * pen.unit : 0;
  pen.plate(text, [anchor[0], anchor[1] - lift], colour, plates, true);
}

/**
 * Draw the user's input: clicks, boxes, and the corners of an open polygon.
 *
 * @param {CanvasRenderingContext2D} context
 * @param {{pos: Point[], neg: Point[], boxes: Box[], corners: Point[]}} prompts
 * @param {number} unit
 */
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
  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} unit
   */
  constructor(context, unit) {
    this.context = context;
    this.unit = unit;
    context.lineJoin = "round";
    context.lineCap = "round";
  }

  /**
   * @param {Point[]} points
   * @param {boolean} closed
   */
  path(points, closed) {
    this.context.beginPath();
    points.forEach(([x, y], i) => (i ? this.context.lineTo(x, y) : this.context.moveTo(x, y)));
    if (closed) this.context.closePath();
  }

  /**
   * Draw a line with a soft dark border, visible on light and dark backgrounds.
   *
   * @param {Point[]} points
   * @param {Colour} colour
   */
  stroke(points, colour, closed = false, lineWidth = 1) {
    this.path(points, closed);
    this.context.lineWidth = 4 * lineWidth * this.unit;
    this.context.strokeStyle = "rgb(16 18 22 / 0.35)";
    this.context.stroke();
    this.context.lineWidth = 2 * lineWidth * this.unit;
    this.context.strokeStyle = css(colour);
    this.context.stroke();
  }

  /**
   * @param {Point[]} points
   * @param {Colour} colour
   * @param {number} opacity
   */
  area(points, colour, opacity) {
    this.path(points, true);
    this.context.fillStyle = css(colour, Math.min(opacity, 1));
    this.context.fill();
  }

  /**
   * @param {Point[]} points
   * @param {Colour} colour
   * @param {number} radius
   */
  dots(points, colour, radius) {
    for (const [x, y] of points) {
      for (const { factor, fill } of [
        { factor: 1.45, fill: "rgb(16 18 22 / 0.35)" },
        { factor: 1.2, fill: "white" },
        { factor: 0.85, fill: css(colour) },
      ]) {
        this.context.beginPath();
        this.context.arc(x, y, radius * factor * this.unit, 0, 2 * Math.PI);
        this.context.fillStyle = fill;
        this.context.fill();
      }
    }
  }

  /**
   * Draw a short white line in a dot.
   *
   * @param {Point} point
   * @param {number} length
   */
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

  /**
   * Draw a small text next to a point if there is room between the others.
   *
   * @param {string} text
   * @param {Point} point
   * @param {Box[]} captions
   */
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
          ([otherLeft, otherTop, otherWidth]) =>
            l < otherLeft + otherWidth &&
            otherLeft < l + textWidth &&
            t < otherTop + textHeight &&
            otherTop < t + textHeight,
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

  /**
   * Return positions of a text that are in the canvas, moved in at its edges; those that would cover the
   * point are omitted.
   *
   * @param {Point[]} positions
   * @param {number} textWidth
   * @param {number} textHeight
   * @param {number} gap
   */
  inView(positions, textWidth, textHeight, gap) {
    const { a, d, e, f } = this.context.getTransform();
    const { width, height } = this.context.canvas;
    const [left, top] = [-e / a, -f / d];
    const [right, bottom] = [left + width / a - textWidth, top + height / d - textHeight];
    return positions
      .filter(
        ([x, y]) => x >= left - gap && x <= right + gap && y >= top - textHeight && y <= bottom + textHeight,
      )
      .map(([x, y]) => [Math.min(Math.max(left, x), right), Math.min(Math.max(top, y), bottom)]);
  }

  /**
   * Draw a text on a plate above a point, or where it fits without covering another.
   *
   * @param {string} text
   * @param {Point} point
   * @param {Colour} colour
   * @param {Box[]} plates
   * @param {boolean} above
   */
  plate(text, [x, y], colour, plates, above) {
    const { context, unit } = this;
    context.font = `600 ${12 * unit}px system-ui, "Noto Sans", "DejaVu Sans", sans-serif`;
    const textWidth = context.measureText(text).width + 10 * unit;
    const textHeight = 18 * unit;
    const rows = above ? [y - textHeight - unit, y + 2 * unit] : [y];
    for (let i = 1; i < 10; i += 1) rows.push(y + 2 * unit + textHeight * i);
    const freeRows = rows.filter((row) => row >= 0);
    /** @param {number} row */
    const covers = (row) =>
      plates.some(([l, t, w, h]) => x < l + w && l < x + textWidth && row < t + h && t < row + textHeight);
    const top = freeRows.find((row) => !covers(row)) ?? freeRows[0] ?? 0;
    const left = Math.max(0, x - unit);
    plates.push([left, top, textWidth, textHeight]);
    context.beginPath();
    context.roundRect(left, top, textWidth, textHeight, 4 * unit);
    context.fillStyle = css(colour);
    context.fill();
    const bright = 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2] > 140;
    context.fillStyle = bright ? DARK : "white";
    context.textBaseline = "middle";
    context.fillText(text, left + 5 * unit, top + textHeight / 2 + 0.5 * unit);
  }
}
