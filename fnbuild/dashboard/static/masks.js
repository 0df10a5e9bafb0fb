// Masks in the three ways functions write them, and as pictures.
//
// A mask is {left, top, right, bottom, bits}: an inclusive box in pixels of the picture, and a byte
// of 0 or 1 for each of its pixels, row by row. What cannot be read raises an error that says why.

const width = (mask) => mask.right - mask.left + 1;
const height = (mask) => mask.bottom - mask.top + 1;

function box(values, size) {
  const [left, top, right, bottom] = values;
  if (values.length !== 4 || !values.every(Number.isInteger))
    throw new Error("a mask ends in a box of 4 whole numbers");
  if (left < 0 || top < 0 || right >= size.width || bottom >= size.height || right < left || bottom < top) {
    throw new Error(`the mask's box ${values.join(", ")} is not within the picture`);
  }
  return { left, top, right, bottom };
}

/** A detector's: the pixels of the box as one list, then left, top, right, bottom. */
export function fromCrop(values, size) {
  if (!Array.isArray(values) || Array.isArray(values[0]))
    throw new Error("a detector's mask is one flat list");
  const mask = box(values.slice(-4), size);
  const count = width(mask) * height(mask);
  if (values.length - 4 !== count)
    throw new Error(`the mask has ${values.length - 4} pixels for a box of ${count}`);
  return { ...mask, bits: Uint8Array.from({ length: count }, (_, i) => (values[i] ? 1 : 0)) };
}

/** An interactor's: lengths of runs that begin with zeros, then left, top, right, bottom. */
export function fromRuns(values, size) {
  if (!Array.isArray(values)) throw new Error("an interactor's mask is a list of run lengths");
  const mask = box(values.slice(-4), size);
  const bits = new Uint8Array(width(mask) * height(mask));
  let at = 0;
  values.slice(0, -4).forEach((run, i) => {
    if (!Number.isInteger(run) || run < 0 || at + run > bits.length)
      throw new Error("the mask's runs do not fill its box");
    if (i % 2) bits.fill(1, at, at + run);
    at += run;
  });
  if (at !== bits.length) throw new Error(`the mask's runs cover ${at} pixels of a box of ${bits.length}`);
  return { ...mask, bits };
}

/** An older interactor's: one list for each row of the whole picture. Null when nothing is set. */
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

/** How many pixels are set. */
export const area = (mask) => mask.bits.reduce((sum, bit) => sum + bit, 0);

/** Whether a pixel of the picture is set. */
export function holds(mask, x, y) {
  const [column, row] = [Math.floor(x) - mask.left, Math.floor(y) - mask.top];
  return (
    column >= 0 &&
    row >= 0 &&
    column < width(mask) &&
    row < height(mask) &&
    mask.bits[row * width(mask) + column] === 1
  );
}

/** The mask as a canvas to draw at its left and top: a translucent area with a solid edge. */
export function picture(mask, [red, green, blue], opacity = 0.42) {
  const [across, down] = [width(mask), height(mask)];
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [across, down];
  const context = canvas.getContext("2d");
  const image = context.createImageData(across, down);
  const { bits } = mask;
  for (let i = 0; i < bits.length; i += 1) {
    if (!bits[i]) continue;
    const x = i % across;
    const inner =
      x > 0 && x < across - 1 && bits[i - 1] && bits[i + 1] && bits[i - across] && bits[i + across];
    image.data.set([red, green, blue, inner ? opacity * 255 : 255], i * 4);
  }
  context.putImageData(image, 0, 0);
  return canvas;
}
