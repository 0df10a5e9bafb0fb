// The user's input for a picture: clicks, boxes, the corners of an open polygon.

const CLOSE_DISTANCE = 10;

export class Prompts {
  constructor() {
    /** @type {Point[]} */
    this.pos = [];
    /** @type {Point[]} */
    this.neg = [];
    /** @type {Box | null} */
    this.box = null;
    /** @type {Box[]} */
    this.boxes = [];
    /** @type {Point[]} */
    this.corners = [];
  }

  get hasAny() {
    const { pos, neg, boxes, corners, box } = this;
    return pos.length + neg.length + boxes.length + corners.length > 0 || box !== null;
  }

  /**
   * Add a corner; return the polygon's points if a click on the first or last corner closes it.
   *
   * @param {Point} corner
   * @param {number} scale
   */
  addCorner([x, y], scale) {
    /** @param {Point} point */
    const isNear = (point) => Math.hypot(point[0] - x, point[1] - y) * scale < CLOSE_DISTANCE;
    const endCorners = [this.corners[0], ...this.corners.slice(-1)];
    if (this.corners.length > 2 && endCorners.some(isNear)) return this.closePolygon();
    this.corners.push([x, y]);
    return null;
  }

  /** Remove the corners and return them as points of a polygon, null if there are fewer than three. */
  closePolygon() {
    const { corners } = this;
    if (corners.length < 3) return null;
    this.corners = [];
    return corners.flat();
  }

  /** Remove the last input. */
  undo() {
    if (this.boxes.length) this.boxes.pop();
    else if (this.neg.length) this.neg.pop();
    else if (this.pos.length) this.pos.pop();
    else this.box = null;
  }
}

/**
 * Return the input that an interactor still needs by its annotations, as CVAT's interface requires it; ""
 * if none is missing. Any text in `startswith_box` means true.
 *
 * @param {Record<string, string>} annotations
 * @param {Prompts} prompt
 */
export function missingPrompt(annotations, prompt) {
  const minimum = Number(annotations.min_pos_points ?? 1);
  if (annotations.startswith_box && !prompt.box) return "Draw a box around the object.";
  if (prompt.box || prompt.pos.length >= Math.max(minimum, 1)) return "";
  const box = annotations.startswith_box_optional;
  return box ? "Draw a box around the object, or click on it." : "Click on the object.";
}
