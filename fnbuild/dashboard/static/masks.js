// Masks in the three formats of functions, and as pictures.
//
// A mask is an inclusive box in pixels of the picture and a byte of 0 or 1 for each of its pixels, row by
// row. An invalid mask throws an error that gives the reason.

import { contextOf, h } from "./dom.js";

/** @param {Omit<Mask, "bits">} mask */
const width = (mask) => mask.right - mask.left + 1;
/** @param {Omit<Mask, "bits">} mask */
const height = (mask) => mask.bottom - mask.top + 1;

/**
 * @param {number[]} values
 * @param {Size} size
 */
function box(values, size) {
  const [left, top, right, bottom] = values;
  if (values.length !== 4 || !values.every(Number.isInteger))
    throw new Error("a mask ends in a box of 4 whole numbers");
  if (left < 0 || top < 0 || right >= size.width || bottom >= size.height || right < left || bottom < top) {
    throw new Error(`the mask's box ${values.join(", ")} is not within the picture`);
  }
  return { left, top, right, bottom };
}

/**
 * Parse a detector's mask: the pixels of the box as one list, then left, top, right, bottom.
 *
 * @param {any} values
 * @param {Size} size
 * @returns {Mask}
 */
export function fromCrop(values, size) {
  if (!Array.isArray(values) || Array.isArray(values[0]))
    throw new Error("a detector's mask is one flat list");
  const mask = box(values.slice(-4), size);
  const count = width(mask) * height(mask);
  if (values.length - 4 !== count)
    throw new Error(`the mask has ${values.length - 4} pixels for a box of ${count}`);
  return { ...mask, bits: Uint8Array.from({ length: count }, (_, i) => (values[i] ? 1 : 0)) };
}

/**
 * Parse an interactor's mask: lengths of runs that begin with zeros, then left, top, right, bottom.
 *
 * @param {any} values
 * @param {Size} size
 * @returns {Mask}
 */
export function fromRuns(values, size) {
  if (!Array.isArray(values)) throw new Error("an interactor's mask is a list of run lengths");
  const mask = box(values.slice(-4), size);
  const bits = new Uint8Array(width(mask) * height(mask));
  let position = 0;
  values.slice(0, -4).forEach((run, i) => {
    if (!Number.isInteger(run) || run < 0 || position + run > bits.length)
      throw new Error("the mask's runs do not fill its box");
    if (i % 2) bits.fill(1, position, position + run);
    position += run;
  });
  if (position !== bits.length)
    throw new Error(`the mask's runs cover ${position} pixels of a box of ${bits.length}`);
  return { ...mask, bits };
}

/**
 * Parse an older interactor's mask: one list for each row of the picture. Return null if no pixel is set.
 *
 * @param {any} rows
 * @param {Size} size
 * @returns {Mask | null}
 */
export function fromRows(rows, size) {
  if (!Array.isArray(rows) || rows.length !== size.height || rows.some((row) => row?.length !== size.width)) {
    throw new Error(`the mask must have ${size.height} rows of ${size.width} pixels`);
  }
  const used = rows.map((row) => [row.findIndex(Boolean), row.findLastIndex(Boolean)]);
  const top = used.findIndex(([first]) => first >= 0);
  if (top < 0) return null;
  const bottom = used.findLastIndex(([first]) => first >= 0);
  const left = Math.min(...used.flatMap(([first]) => (first < 0 ? [] : [first])));
  const right = Math.max(...used.map(([, last]) => last));
  const mask = { left, top, right, bottom };
  const bits = new Uint8Array(width(mask) * height(mask));
  for (let y = top; y <= bottom; y += 1) {
    for (let x = left; x <= right; x += 1) bits[(y - top) * width(mask) + x - left] = rows[y][x] ? 1 : 0;
  }
  return { ...mask, bits };
}

/**
 * Return the number of pixels that are set.
 *
 * @param {Mask} mask
 */
export const area = (mask) => mask.bits.reduce((sum, bit) => sum + bit, 0);

/**
 * Return the mask as a canvas to draw at its left and top: a translucent area with a solid edge.
 *
 * @param {Mask} mask
 * @param {Colour} colour
 */
export function maskCanvas(mask, [red, green, blue], opacity = 0.42) {
  const [columns, rows] = [width(mask), height(mask)];
  const canvas = h("canvas", { width: columns, height: rows });
  const context = contextOf(canvas);
  const image = context.createImageData(columns, rows);
  const { bits } = mask;
  for (let i = 0; i < bits.length; i += 1) {
    if (!bits[i]) continue;
    const x = i % columns;
    const inner =
      x > 0 && x < columns - 1 && bits[i - 1] && bits[i + 1] && bits[i - columns] && bits[i + columns];
    image.data.set([red, green, blue, inner ? opacity * 255 : 255], i * 4);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
