// What functions reply, as shapes to draw: the counterpart of fnbuild/cvat, which judges replies.
//
// A shape is {type, label, points, confidence, rotation, elements, mask, attributes, outside}, in
// pixels of the picture. Replies are anybody's: whatever cannot be drawn is left out and counted.

import { fromCrop, fromRows, fromRuns } from "./masks.js";

const LEAST = { rectangle: 4, ellipse: 4, polygon: 6, polyline: 4, points: 2, cuboid: 16 };

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

const named = (items) =>
  Array.isArray(items) ? items.map((one) => one?.name).filter((name) => typeof name === "string") : [];

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
  const known = Array.isArray(items) ? items.filter((one) => typeof one?.name === "string") : [];
  return known.map((one, i) => ({
    name: one.name,
    type: typeof one.type === "string" ? one.type : "any",
    colour: PALETTE[i % PALETTE.length],
    edges: typeof one.svg === "string" ? edges(one.svg) : pairsIn(one.edges),
    attributes: named(one.attributes),
    sublabels: named(one.sublabels),
  }));
}

/** The pairs of names in the key `edges`, of which `fnbuild validate --fix` makes the picture. */
const pairsIn = (value) =>
  Array.isArray(value) ? value.filter((one) => Array.isArray(one) && one.length === 2) : [];

/** Pairs of sublabel names that a skeleton's picture joins. It is read, never shown. */
function edges(svg) {
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
  const known = labels.find((one) => one.name === name);
  if (known) return known.colour;
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
  const read = { detector: detections, interactor: cutouts, tracker: tracked }[kind];
  let unread = 0;
  const shapes = [];
  for (const make of read?.(reply, size) ?? []) {
    try {
      shapes.push(make());
    } catch {
      unread += 1;
    }
  }
  return { shapes: shapes.filter(Boolean), unread };
}

const listOf = (value) => (Array.isArray(value) ? value : []);

function detections(reply, size) {
  return listOf(reply).map((item) => () => {
    const type = String(item.type).toLowerCase() === "tag" ? "tag" : item.type;
    const shape = {
      type,
      label: String(item.label ?? ""),
      confidence: number(item.confidence ?? item.score),
      rotation: number(item.rotation) ?? 0,
      attributes: listOf(item.attributes).map((one) => [String(one?.name), String(one?.value)]),
      points: [],
      elements: [],
    };
    if (type === "mask") shape.mask = fromCrop(item.mask, size);
    else if (type === "skeleton") shape.elements = listOf(item.elements).map(element);
    else if (type !== "tag" && type !== "interval") shape.points = pointsOf(type, item.points);
    return shape;
  });
}

function element(item) {
  return {
    label: String(item.label),
    points: pointsOf("points", item.points),
    outside: Boolean(item.outside),
  };
}

function cutouts(reply, size) {
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
      const said = listOf(item.attributes).find((one) => one?.spec_id === 0);
      return { ...nameless, mask: fromRuns(item.points, size), confidence: number(said?.value) };
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

function tracked(reply) {
  return listOf(reply?.shapes).map((item, index) => () => item && trackedShape(item, index));
}

/** One entry of a tracker's reply; older ones send the numbers of a box, or of a polygon, alone. */
function trackedShape(item, index) {
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
  const least = LEAST[type];
  if (!least) throw new Error(`${type} is no type of shape`);
  if (!Array.isArray(values) || values.length < least || values.length % 2)
    throw new Error("points are missing");
  if (!values.every(Number.isFinite)) throw new Error("points must be numbers");
  return values;
}

function number(value) {
  const read = typeof value === "string" && value.trim() ? Number(value) : value;
  return Number.isFinite(read) ? read : null;
}

/** Flat coordinates as pairs. */
export function pairs(points) {
  return points.flatMap((x, i) => (i % 2 ? [] : [[x, points[i + 1]]]));
}

/** The corners to draw, turned by the rotation: clockwise as seen, round the middle. */
export function outline(shape) {
  const around = bounds(shape);
  if (!around) return [];
  const [left, top, right, bottom] = around;
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
    points = shape.elements.filter((one) => !one.outside).flatMap((one) => one.points);
  if (points.length < 2) return null;
  if (shape.type === "ellipse") {
    const [cx, cy, right, top] = points;
    const [rx, ry] = [Math.abs(right - cx), Math.abs(cy - top)];
    return [cx - rx, cy - ry, cx + rx, cy + ry];
  }
  const xs = points.filter((_, i) => i % 2 === 0);
  const ys = points.filter((_, i) => i % 2);
  const least = (values) => values.reduce((a, b) => Math.min(a, b));
  const most = (values) => values.reduce((a, b) => Math.max(a, b));
  return [least(xs), least(ys), most(xs), most(ys)];
}

/** How much of the picture a shape covers by its box: large ones are drawn first. */
export function extent(shape) {
  const around = bounds(shape);
  return around ? (around[2] - around[0]) * (around[3] - around[1]) : Infinity;
}

/** In a few words where a shape is. */
export function summary(shape) {
  if (shape.type === "tag") return "the whole picture";
  if (shape.type === "interval") return "no place on a picture";
  const around = bounds(shape);
  if (!around) return "nowhere";
  const [left, top, right, bottom] = around.map(Math.round);
  if (shape.type === "skeleton") {
    return `${shape.elements.filter((one) => !one.outside).length} of ${shape.elements.length} points`;
  }
  if (shape.type === "points")
    return pairs(shape.points)
      .map((pair) => pair.map(Math.round).join(","))
      .slice(0, 3)
      .join(" ");
  return `${left},${top} ${right},${bottom}`;
}
