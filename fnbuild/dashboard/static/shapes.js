// Replies of functions as shapes to draw: the counterpart of fnbuild/cvat, which checks replies.
//
// Points are in pixels of the picture. What cannot be drawn is omitted and counted.

import { crc32 } from "./archive.js";
import { fromCrop, fromRows, fromRuns } from "./masks.js";

/** @type {Shape} */
export const EMPTY_SHAPE = {
  type: "",
  label: "",
  points: [],
  elements: [],
  attributes: [],
  rotation: 0,
  confidence: null,
};

/** @type {Record<string, number>} */
const MIN_COORDINATES = { rectangle: 4, ellipse: 4, polygon: 6, polyline: 4, points: 2, cuboid: 16 };

// The colours of labels in fnbuild/function/labels.py, which the command line draws with.
const PALETTE = [
  [255, 64, 85],
  [0, 196, 130],
  [56, 140, 255],
  [255, 176, 0],
  [190, 90, 255],
  [0, 200, 225],
  [255, 112, 40],
  [140, 205, 20],
  [255, 85, 190],
  [95, 105, 255],
  [230, 205, 0],
  [0, 165, 165],
  [235, 60, 235],
  [60, 210, 60],
  [200, 120, 60],
  [120, 180, 255],
];
const NAMELESS = PALETTE[2];

/**
 * @param {unknown} items
 * @returns {string[]}
 */
const namesIn = (items) =>
  Array.isArray(items) ? items.map((item) => item?.name).filter((name) => typeof name === "string") : [];

/**
 * Return the readable labels of a function's annotation `spec`.
 *
 * @param {string | undefined} text
 * @returns {Label[]}
 */
export function labelsOf(text) {
  let items = [];
  try {
    items = JSON.parse(text || "[]");
  } catch {
    // The deploy reports an invalid spec; requests work without it.
  }
  const valid = Array.isArray(items) ? items.filter((item) => typeof item?.name === "string") : [];
  return valid.map((label, i) => ({
    name: label.name,
    type: typeof label.type === "string" ? label.type : "any",
    colour: PALETTE[i % PALETTE.length],
    edges: typeof label.svg === "string" ? svgEdges(label.svg) : edgePairs(label.edges),
    attributes: namesIn(label.attributes),
    sublabels: namesIn(label.sublabels),
  }));
}

/**
 * Return the pairs of names in the key `edges`, from which `fnbuild validate --fix` draws the skeleton.
 *
 * @param {unknown} value
 */
const edgePairs = (value) =>
  Array.isArray(value) ? value.filter((pair) => Array.isArray(pair) && pair.length === 2) : [];

/**
 * Return the pairs of sublabels that a skeleton's drawing connects. It is parsed, never shown.
 *
 * @param {string} svg
 */
function svgEdges(svg) {
  const drawing = new DOMParser().parseFromString(`<svg>${svg}</svg>`, "text/html");
  /** @type {Record<string, string>} */
  const names = {};
  /** @type {NodeListOf<HTMLElement>} */
  const nodes = drawing.querySelectorAll("circle[data-node-id]");
  for (const { dataset } of nodes) {
    const { nodeId = "", labelName } = dataset;
    names[nodeId] = labelName || nodeId;
  }
  /** @type {NodeListOf<HTMLElement>} */
  const lines = drawing.querySelectorAll("line[data-type=edge]");
  return [...lines].map(({ dataset: { nodeFrom = "", nodeTo = "" } }) =>
    [nodeFrom, nodeTo].map((id) => names[id] ?? id),
  );
}

/**
 * Return the colour of a label: by its position in the spec, else by its name.
 *
 * @param {string} name
 * @param {Label[]} labels
 */
export function colourOf(name, labels) {
  const label = labels.find((item) => item.name === name);
  if (label) return label.colour;
  return name ? PALETTE[crc32(new TextEncoder().encode(name)) % PALETTE.length] : NAMELESS;
}

/**
 * Return the colour of the i-th of several things without a label.
 *
 * @param {number} i
 */
const colourAt = (i) => PALETTE[i % PALETTE.length];

/**
 * Return the colour in which a shape is drawn.
 *
 * @param {Shape} shape
 * @param {Label[]} labels
 */
export const shapeColour = (shape, labels) =>
  shape.label || shape.index === undefined ? colourOf(shape.label, labels) : colourAt(shape.index);

/**
 * Return the shapes of a reply to a picture of this size, and the number of those that could not be read.
 *
 * @param {string} kind
 * @param {unknown} reply
 * @param {Size} size
 */
export function shapesOf(kind, reply, size) {
  const parse = { detector: detectorShapes, interactor: interactorShapes, tracker: trackerShapes }[kind];
  let skipped = 0;
  const shapes = [];
  for (const parseShape of parse?.(reply, size) ?? []) {
    try {
      shapes.push(parseShape());
    } catch {
      skipped += 1;
    }
  }
  return { shapes: shapes.filter(Boolean), skipped };
}

/**
 * @param {unknown} value
 * @returns {any[]}
 */
const asList = (value) => (Array.isArray(value) ? value : []);

/**
 * @param {unknown} reply
 * @param {Size} size
 */
function detectorShapes(reply, size) {
  return asList(reply).map((item) => () => {
    const type = String(item.type).toLowerCase() === "tag" ? "tag" : item.type;
    /** @type {Shape} */
    const shape = {
      type,
      label: String(item.label ?? ""),
      confidence: toNumber(item.confidence ?? item.score),
      rotation: toNumber(item.rotation) ?? 0,
      attributes: asList(item.attributes).map((attribute) => [
        String(attribute?.name),
        String(attribute?.value),
      ]),
      points: [],
      elements: [],
    };
    if (type === "mask") shape.mask = fromCrop(item.mask, size);
    else if (type === "skeleton") shape.elements = asList(item.elements).map(skeletonElement);
    else if (type !== "tag" && type !== "interval") shape.points = pointsOf(type, item.points);
    return shape;
  });
}

/** @param {any} item */
function skeletonElement(item) {
  return {
    label: String(item.label),
    points: pointsOf("points", item.points),
    outside: Boolean(item.outside),
  };
}

/**
 * @param {any} reply
 * @param {Size} size
 */
function interactorShapes(reply, size) {
  const nameless = { ...EMPTY_SHAPE, type: "mask" };
  if (Array.isArray(reply?.shapes)) {
    return reply.shapes.map((/** @type {any} */ item) => () => {
      if (item.type !== "mask")
        return { ...nameless, type: item.type, points: pointsOf(item.type, item.points) };
      const score = asList(item.attributes).find((attribute) => attribute?.spec_id === 0);
      return { ...nameless, mask: fromRuns(item.points, size), confidence: toNumber(score?.value) };
    });
  }
  if (!reply?.mask) return [];
  return [
    () => {
      const mask = fromRows(reply.mask, size);
      return mask && { ...nameless, mask };
    },
  ];
}

/** @param {any} reply */
function trackerShapes(reply) {
  return asList(reply?.shapes).map((item, index) => () => item && trackerShape(item, index));
}

/**
 * Parse one item of a tracker's reply; older trackers send only the coordinates of a box or of a polygon.
 *
 * @param {any} item
 * @param {number} index
 * @returns {Shape}
 */
function trackerShape(item, index) {
  const shape = { ...EMPTY_SHAPE, index };
  if (!Array.isArray(item)) return { ...shape, type: item.type, points: pointsOf(item.type, item.points) };
  const points = pointsOf("polyline", item);
  const xs = points.filter((_, i) => i % 2 === 0);
  const ys = points.filter((_, i) => i % 2);
  return {
    ...shape,
    type: "rectangle",
    points: [Math.min(...xs), Math.min(...ys), Math.max(...xs), Math.max(...ys)],
  };
}

/**
 * @param {string} type
 * @param {any} values
 * @returns {number[]}
 */
function pointsOf(type, values) {
  const minimum = MIN_COORDINATES[type];
  if (!minimum) throw new Error(`${type} is no type of shape`);
  if (!Array.isArray(values) || values.length < minimum || values.length % 2)
    throw new Error("points are missing");
  if (!values.every(Number.isFinite)) throw new Error("points must be numbers");
  return values;
}

/**
 * @param {unknown} value
 * @returns {number | null}
 */
function toNumber(value) {
  const parsed = typeof value === "string" && value.trim() ? Number(value) : value;
  return typeof parsed === "number" && Number.isFinite(parsed) ? parsed : null;
}

/**
 * Return flat coordinates as points.
 *
 * @param {number[]} points
 * @returns {Point[]}
 */
export function pairs(points) {
  return points.flatMap((x, i) => (i % 2 ? [] : [[x, points[i + 1]]]));
}

/**
 * Return the corners to draw, rotated clockwise about the centre.
 *
 * @param {Shape} shape
 * @returns {Point[]}
 */
export function outline(shape) {
  const box = bounds(shape);
  if (!box) return [];
  const [left, top, right, bottom] = box;
  const [cx, cy] = [(left + right) / 2, (top + bottom) / 2];
  let corners = pairs(shape.points);
  if (shape.type === "rectangle")
    corners = [
      [left, top],
      [right, top],
      [right, bottom],
      [left, bottom],
    ];
  if (shape.type === "ellipse") {
    corners = Array.from({ length: 72 }, (_, i) => (i * Math.PI) / 36).map((t) => [
      cx + ((right - left) / 2) * Math.cos(t),
      cy + ((bottom - top) / 2) * Math.sin(t),
    ]);
  }
  if (!shape.rotation) return corners;
  const [sine, cosine] = [
    Math.sin((shape.rotation * Math.PI) / 180),
    Math.cos((shape.rotation * Math.PI) / 180),
  ];
  return corners.map(([x, y]) => [
    cx + (x - cx) * cosine - (y - cy) * sine,
    cy + (x - cx) * sine + (y - cy) * cosine,
  ]);
}

/**
 * Return left, top, right and bottom of a shape before rotation, null without a position.
 *
 * @param {Shape} shape
 * @returns {Box | null}
 */
export function bounds(shape) {
  if (shape.mask) return [shape.mask.left, shape.mask.top, shape.mask.right + 1, shape.mask.bottom + 1];
  let { points } = shape;
  if (shape.type === "skeleton")
    points = shape.elements.filter((element) => !element.outside).flatMap((element) => element.points);
  if (points.length < 2) return null;
  if (shape.type === "ellipse") {
    const [cx, cy, right, top] = points;
    const [rx, ry] = [Math.abs(right - cx), Math.abs(cy - top)];
    return [cx - rx, cy - ry, cx + rx, cy + ry];
  }
  const xs = points.filter((_, i) => i % 2 === 0);
  const ys = points.filter((_, i) => i % 2);
  // Too many values for the arguments of Math.min.
  const [left, right] = [xs.reduce((a, b) => Math.min(a, b)), xs.reduce((a, b) => Math.max(a, b))];
  const [top, bottom] = [ys.reduce((a, b) => Math.min(a, b)), ys.reduce((a, b) => Math.max(a, b))];
  return [left, top, right, bottom];
}

/**
 * Return the area of a shape's box: large shapes are drawn first.
 *
 * @param {Shape} shape
 */
export function extent(shape) {
  const box = bounds(shape);
  return box ? (box[2] - box[0]) * (box[3] - box[1]) : Infinity;
}

/**
 * Return a short description of a shape's position.
 *
 * @param {Shape} shape
 */
export function summary(shape) {
  if (shape.type === "tag") return "the whole picture";
  if (shape.type === "interval") return "no place on a picture";
  const box = bounds(shape);
  if (!box) return "nowhere";
  const [left, top, right, bottom] = box.map(Math.round);
  if (shape.type === "skeleton") {
    const visible = shape.elements.filter((element) => !element.outside);
    return `${visible.length} of ${shape.elements.length} points`;
  }
  if (shape.type === "points")
    return pairs(shape.points)
      .map((pair) => pair.map(Math.round).join(","))
      .slice(0, 3)
      .join(" ");
  return `${left},${top} ${right},${bottom}`;
}
