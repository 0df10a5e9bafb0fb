// What a person gave for one picture: clicks, boxes, the corners of a polygon that is not closed yet.

const CLOSE_DISTANCE = 10;

export class Prompts {
  constructor() {
    Object.assign(this, { pos: [], neg: [], box: null, boxes: [], corners: [] });
  }

  get hasAny() {
    const { pos, neg, boxes, corners, box } = this;
    return pos.length + neg.length + boxes.length + corners.length > 0 || box !== null;
  }

  /** Another corner; the polygon's points when it closes it, by a click on the first or last one. */
  addCorner([x, y], scale) {
    const isNear = (point) => Math.hypot(point[0] - x, point[1] - y) * scale < CLOSE_DISTANCE;
    const endCorners = [this.corners[0], this.corners.at(-1)];
    if (this.corners.length > 2 && endCorners.some(isNear)) return this.closePolygon();
    this.corners.push([x, y]);
    return null;
  }

  /** The polygon's points, of which nothing stays here; null of fewer than three corners. */
  closePolygon() {
    const { corners } = this;
    if (corners.length < 3) return null;
    this.corners = [];
    return corners.flat();
  }

  /** Take the last of them back. */
  undo() {
    if (this.boxes.length) this.boxes.pop();
    else if (this.neg.length) this.neg.pop();
    else if (this.pos.length) this.pos.pop();
    else this.box = null;
  }
}

/**
 * What an interactor still needs by its annotations, as CVAT's page asks for it; "" when nothing.
 *
 * Any text in `startswith_box` means yes there.
 */
export function missingPrompt(annotations, prompt) {
  const minimum = Number(annotations.min_pos_points ?? 1);
  if (annotations.startswith_box && !prompt.box) return "Draw a box around the object.";
  if (prompt.box || prompt.pos.length >= Math.max(minimum, 1)) return "";
  const box = annotations.startswith_box_optional;
  return box ? "Draw a box around the object, or click on it." : "Click on the object.";
}
