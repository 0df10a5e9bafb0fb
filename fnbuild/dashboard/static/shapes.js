// What functions reply, as shapes to draw: the counterpart of fnbuild/cvat, which judges replies.
//
// A shape is {type, label, points, confidence, rotation, elements, mask, attributes, outside}, in
// pixels of the picture. Replies are anybody's: whatever cannot be drawn is left out and counted.

import { fromCrop, fromRows, fromRuns } from "./masks.js";

const MIN_COORDINATES = { rectangle: 4, ellipse: 4, polygon: 6, polyline: 4, points: 2, cuboid: 16 };

// Colours of labels as in fnbuild/function/labels.py, so that pictures by the command line look alike.
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

const namesIn = (items) =>
  Array.isArray(items) ? items.map((item) => item?.name).filter((name) => typeof name === "string") : [];

/**
 * The labels of a function as far as they can be read.
 *
 * Each is `{name, type, colour, edges, attributes, sublabels}`.
 */
export function labelsOf(text) {
  let items = [];
  try {
    items = JSON.parse(text || "[]");
  } catch {
    // Its own page says that the spec is no JSON; a picture can be sent all the same.
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

/** The pairs of names in the key `edges`, of which `fnbuild validate --fix` makes the picture. */
const edgePairs = (value) =>
  Array.isArray(value) ? value.filter((pair) => Array.isArray(pair) && pair.length === 2) : [];

/** Pairs of sublabel names that a skeleton's picture joins. It is read, never shown. */
function svgEdges(svg) {
  const drawing = new DOMParser().parseFromString(`<svg>${svg}</svg>`, "text/html");
  const names = {};
  for (const node of drawing.querySelectorAll("circle[data-node-id]")) {
    names[node.dataset.nodeId] = node.dataset.labelName || node.dataset.nodeId;
  }
  return [...drawing.querySelectorAll("line[data-type=edge]")].map(({ dataset }) =>
    [dataset.nodeFrom, dataset.nodeTo].map((id) => names[id] ?? id),
  );
}

/** The colour of a label: by its place in the spec, else one that follows from its name. */
export function colourOf(name, labels) {
  const label = labels.find((item) => item.name === name);
  if (label) return label.colour;
  return name ? PALETTE[crc32(name) % PALETTE.length] : NAMELESS;
}

/** The colour of the i-th thing of several that have no label. */
export const colourAt = (i) => PALETTE[i % PALETTE.length];

function crc32(text) {
  let sum = 0xffffffff;
  for (const byte of new TextEncoder().encode(text)) {
    sum ^= byte;
    for (let i = 0; i < 8; i += 1) sum = (sum >>> 1) ^ (sum & 1 ? 0xedb88320 : 0);
  }
  return (sum ^ 0xffffffff) >>> 0;
}

/** The shapes of a reply to a picture of this size, and how many could not be read. */
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

const asList = (value) => (Array.isArray(value) ? value : []);

function detectorShapes(reply, size) {
  return asList(reply).map((item) => () => {
    const type = String(item.type).toLowerCase() === "tag" ? "tag" : item.type;
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

function skeletonElement(item) {
  return {
    label: String(item.label),
    points: pointsOf("points", item.points),
    outside: Boolean(item.outside),
  };
}

function interactorShapes(reply, size) {
  const nameless = {
    type: "mask",
    label: "",
    points: [],
    elements: [],
    attributes: [],
    rotation: 0,
    confidence: null,
  };
  if (Array.isArray(reply?.shapes)) {
    return reply.shapes.map((item) => () => {
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

function trackerShapes(reply) {
  return asList(reply?.shapes).map((item, index) => () => item && trackerShape(item, index));
}

/** One entry of a tracker's reply; older ones send the numbers of a box, or of a polygon, alone. */
function trackerShape(item, index) {
  const shape = { label: "", elements: [], attributes: [], rotation: 0, confidence: null, index };
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

function pointsOf(type, values) {
  const minimum = MIN_COORDINATES[type];
  if (!minimum) throw new Error(`${type} is no type of shape`);
  if (!Array.isArray(values) || values.length < minimum || values.length % 2)
    throw new Error("points are missing");
  if (!values.every(Number.isFinite)) throw new Error("points must be numbers");
  return values;
}

function toNumber(value) {
  const parsed = typeof value === "string" && value.trim() ? Number(value) : value;
  return Number.isFinite(parsed) ? parsed : null;
}

/** Flat coordinates as pairs. */
export function pairs(points) {
  return points.flatMap((x, i) => (i % 2 ? [] : [[x, points[i + 1]]]));
}

/** The corners to draw, turned by the rotation: clockwise as seen, round the middle. */
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

/** Left, top, right, bottom of a shape before rotation; null of one without a place. */
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
  const minimum = (values) => values.reduce((a, b) => Math.min(a, b));
  const maximum = (values) => values.reduce((a, b) => Math.max(a, b));
  return [minimum(xs), minimum(ys), maximum(xs), maximum(ys)];
}

/** How much of the picture a shape covers by its box: large ones are drawn first. */
export function extent(shape) {
  const box = bounds(shape);
  return box ? (box[2] - box[0]) * (box[3] - box[1]) : Infinity;
}

/** In a few words where a shape is. */
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
