// The states of a tracker, which are sent again with the next frame as CVAT does.

/**
 * @typedef {object} Track
 * @property {number} track
 * @property {Shape | null} shape
 * @property {unknown} state the function's own state after the frame
 */

/** Tracked shapes by frame. A change in a frame discards the later ones. */
export class Tracks {
  /** @param {string[]} types */
  constructor(types) {
    this.types = types;
    /** @type {Map<number, Track[]>} */
    this.frames = new Map();
    this.count = 0;
  }

  clear() {
    this.frames.clear();
    this.count = 0;
  }

  /** @param {number} frame */
  shapesAt(frame) {
    return this.frames.get(frame) ?? [];
  }

  /** @param {number} frame */
  has(frame) {
    return this.frames.has(frame);
  }

  /**
   * Return the shapes of a frame; each has the number of its track as `index`.
   *
   * @param {number} frame
   * @returns {Shape[]}
   */
  shapes(frame) {
    return this.shapesAt(frame).flatMap(({ track, shape }) => (shape ? [{ ...shape, index: track }] : []));
  }

  /**
   * Return a drawn shape in the form that the function accepts; older ones take plain numbers.
   *
   * @param {Shape} shape
   */
  wireShape(shape) {
    if (!this.types.length) return shape.points;
    if (shape.type !== "rectangle" || this.types.includes("rectangle"))
      return { type: shape.type, points: shape.points };
    const [left, top, right, bottom] = shape.points;
    return { type: "polygon", points: [left, top, right, top, right, bottom, left, bottom] };
  }

  /**
   * Return the input for a shape that was drawn in this frame.
   *
   * @param {Shape} shape
   */
  startRequest(shape) {
    return { shapes: [this.wireShape(shape)], states: [] };
  }

  /**
   * Return the input that follows all shapes of this frame to the next one.
   *
   * @param {number} frame
   */
  followRequest(frame) {
    const tracks = this.shapesAt(frame);
    return { shapes: tracks.map(() => null), states: tracks.map(({ state }) => state) };
  }

  /**
   * Start a track with the states and shapes of a reply.
   *
   * @param {number} frame
   * @param {Shape} drawn
   * @param {unknown[]} states
   * @param {Shape[]} shapes
   */
  addTrack(frame, drawn, states, shapes) {
    this.forgetAfter(frame);
    const track = this.count++;
    this.frames.set(frame, [...this.shapesAt(frame), { track, shape: shapes[0] ?? drawn, state: states[0] }]);
  }

  /**
   * Set the shapes of a frame from the reply that follows those of another one.
   *
   * @param {number} from
   * @param {number} to
   * @param {unknown[]} states
   * @param {Shape[]} shapes
   */
  setFollowed(from, to, states, shapes) {
    const shapesByIndex = new Map(shapes.map((shape) => [shape.index, shape]));
    const next = this.shapesAt(from).map(({ track }, i) => ({
      track,
      shape: shapesByIndex.get(i) ?? null,
      state: states[i],
    }));
    this.frames.set(to, next);
  }

  /**
   * Remove the last track that was started in this frame.
   *
   * @param {number} frame
   */
  undo(frame) {
    this.forgetAfter(frame);
    const remaining = this.shapesAt(frame).slice(0, -1);
    if (remaining.length) this.frames.set(frame, remaining);
    else this.frames.delete(frame);
  }

  /** @param {number} frame */
  forgetAfter(frame) {
    for (const other of [...this.frames.keys()]) if (other > frame) this.frames.delete(other);
  }
}
