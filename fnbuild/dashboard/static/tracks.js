// A tracker's states from frame to frame, sent again as CVAT does.
//
// What a frame has is a list of {track, shape, state}: the function's own state after that frame.

/** Followed shapes by frame. Results after a frame are void as soon as something in it changes. */
export class Tracks {
  constructor(types) {
    this.types = types;
    this.clear();
  }

  clear() {
    this.frames = new Map();
    this.count = 0;
  }

  shapesAt(frame) {
    return this.frames.get(frame) ?? [];
  }

  has(frame) {
    return this.frames.has(frame);
  }

  /** The shapes of a frame; each has its track's number as `index`. */
  shapes(frame) {
    return this.shapesAt(frame).flatMap(({ track, shape }) => (shape ? [{ ...shape, index: track }] : []));
  }

  /** A drawn shape as the function declares that it takes it; older ones take plain numbers. */
  wireShape(shape) {
    if (!this.types.length) return shape.points;
    if (shape.type !== "rectangle" || this.types.includes("rectangle"))
      return { type: shape.type, points: shape.points };
    const [remaining, top, right, bottom] = shape.points;
    return { type: "polygon", points: [remaining, top, right, top, right, bottom, remaining, bottom] };
  }

  /** What to send for a shape that was drawn in this frame. */
  startRequest(shape) {
    return { shapes: [this.wireShape(shape)], states: [] };
  }

  /** What to send to follow everything from this frame to the next. */
  followRequest(frame) {
    const tracks = this.shapesAt(frame);
    return { shapes: tracks.map(() => null), states: tracks.map(({ state }) => state) };
  }

  /** A shape was started in a frame: `states` and `shapes` are the reply's. */
  addTrack(frame, drawn, states, shapes) {
    this.forgetAfter(frame);
    const track = this.count++;
    this.frames.set(frame, [...this.shapesAt(frame), { track, shape: shapes[0] ?? drawn, state: states[0] }]);
  }

  /** Everything was followed from one frame to the next. */
  setFollowed(from, to, states, shapes) {
    const places = new Map(shapes.map((shape) => [shape.index, shape]));
    const next = this.shapesAt(from).map(({ track }, i) => ({
      track,
      shape: places.get(i) ?? null,
      state: states[i],
    }));
    this.frames.set(to, next);
  }

  /** Follow the last started shape of this frame no more. */
  undo(frame) {
    this.forgetAfter(frame);
    const remaining = this.shapesAt(frame).slice(0, -1);
    if (remaining.length) this.frames.set(frame, remaining);
    else this.frames.delete(frame);
  }

  forgetAfter(frame) {
    for (const other of [...this.frames.keys()]) if (other > frame) this.frames.delete(other);
  }
}
