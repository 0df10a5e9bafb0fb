// A picture on a canvas that can be moved and enlarged, and on which people point and draw.
//
// Mouse, touch and pen: a click is a click; a drag draws a box with the tool `box` and moves the
// picture with any other; the wheel (with Ctrl, or when the canvas has the focus) and two fingers
// zoom. Keys: arrows move a cross, Enter is a click at it, + - 0 zoom.

const CLICK_DISTANCE = 4;
const MAX_SCALE = 40;

/**
 * `paint(context, unit)` draws over the picture in its coordinates; `unit` is the width of a pixel of
 * the screen there. `on` has `click({x, y, negative})`, `box([l, t, r, b])`, `point({x, y} | null)` and
 * `nothing()` for a drag that neither drew nor moved anything.
 */
export class Stage {
  constructor(canvas, { paint, on }) {
    Object.assign(this, { canvas, paint, on, tool: "move", bitmap: null, cursor: null });
    this.context = canvas.getContext("2d");
    [this.scale, this.x, this.y] = [1, 0, 0];
    this.fitted = true;
    this.pointers = new Map();
    this.gesture = null;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    const listeners = {
      pointerdown: this.onPointerDown,
      pointermove: this.onPointerMove,
      pointerup: this.onPointerUp,
      pointercancel: this.onPointerUp,
      pointerleave: () => this.on.point(null),
      wheel: this.onWheel,
      keydown: this.onKey,
      contextmenu: (event) => event.preventDefault(),
      blur: () => this.setCursor(null),
    };
    for (const [name, handle] of Object.entries(listeners)) {
      canvas.addEventListener(name, (event) => handle.call(this, event), { passive: false });
    }
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /** Show a picture; one of the same size keeps place and zoom. */
  show(bitmap, width, height) {
    const same = this.bitmap && this.width === width && this.height === height;
    Object.assign(this, { bitmap, width, height });
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    if (!same) this.cursor = null;
    if (!same || this.fitted) this.fit();
    this.redraw();
  }

  setTool(tool) {
    this.tool = tool;
    this.gesture = null;
    // A finger scrolls the page where nothing is to be drawn.
    this.canvas.style.touchAction = tool === "move" && this.fitted ? "pan-y" : "none";
    this.canvas.dataset.tool = tool;
    this.redraw();
  }

  get size() {
    return this.canvas.getBoundingClientRect();
  }

  resize() {
    const { width, height } = this.size;
    if (!width || !height) return;
    const ratio = devicePixelRatio || 1;
    [this.canvas.width, this.canvas.height] = [Math.round(width * ratio), Math.round(height * ratio)];
    if (this.fitted) this.fit();
    this.draw();
  }

  /** Show the whole picture. */
  fit() {
    if (!this.bitmap) return;
    const { width, height } = this.size;
    this.scale = Math.min(width / this.width, height / this.height) || 1;
    this.x = (width - this.width * this.scale) / 2;
    this.y = (height - this.height * this.scale) / 2;
    this.fitted = true;
    this.setTool(this.tool);
  }

  /** Zoom by a factor about a place of the canvas, its middle if none is given. */
  zoom(factor, center = null) {
    if (!this.bitmap) return;
    const { width, height } = this.size;
    const [cx, cy] = center ?? [width / 2, height / 2];
    const fitScale = Math.min(width / this.width, height / this.height);
    const scale = Math.min(Math.max(this.scale * factor, fitScale), Math.max(MAX_SCALE, fitScale));
    if (scale <= fitScale * 1.001) {
      this.fit();
      return;
    }
    this.x = cx - ((cx - this.x) * scale) / this.scale;
    this.y = cy - ((cy - this.y) * scale) / this.scale;
    this.scale = scale;
    this.fitted = false;
    this.moveBy(0, 0);
    this.setTool(this.tool);
  }

  /** Move the picture, of which some stays in sight. */
  moveBy(dx, dy) {
    const { width, height } = this.size;
    const clampPosition = (place, length, room) =>
      length <= room ? (room - length) / 2 : Math.min(Math.max(place, room - length), 0);
    this.x = clampPosition(this.x + dx, this.width * this.scale, width);
    this.y = clampPosition(this.y + dy, this.height * this.scale, height);
    this.redraw();
  }

  /** A place of the window as one of the picture, and whether it lies within. */
  placeOf(event) {
    const { left, top } = this.size;
    const x = (event.clientX - left - this.x) / this.scale;
    const y = (event.clientY - top - this.y) / this.scale;
    return { x, y, inside: x >= 0 && y >= 0 && x <= this.width && y <= this.height };
  }

  clampToPicture({ x, y }) {
    return { x: Math.min(Math.max(x, 0), this.width), y: Math.min(Math.max(y, 0), this.height) };
  }

  redraw() {
    cancelAnimationFrame(this.frame);
    this.frame = requestAnimationFrame(() => this.draw());
  }

  draw() {
    const { context, canvas } = this;
    const ratio = canvas.width / (this.size.width || 1);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.clearRect(0, 0, canvas.width, canvas.height);
    if (!this.bitmap) return;
    const scale = this.scale * ratio;
    context.setTransform(scale, 0, 0, scale, this.x * ratio, this.y * ratio);
    context.imageSmoothingEnabled = this.scale < 3;
    context.imageSmoothingQuality = "high";
    context.drawImage(this.bitmap, 0, 0, this.width, this.height);
    this.paint(context, 1 / this.scale, this.gesture?.box ?? null);
    if (this.cursor) this.drawCursor(1 / this.scale);
  }

  drawCursor(unit) {
    const { context } = this;
    const { x, y } = this.cursor;
    for (const [wide, colour] of [
      [3.5, "rgb(16 18 22 / 0.6)"],
      [1.5, "white"],
    ]) {
      context.lineWidth = wide * unit;
      context.strokeStyle = colour;
      context.beginPath();
      for (const [a, b, c, d] of [
        [-12, 0, -3, 0],
        [3, 0, 12, 0],
        [0, -12, 0, -3],
        [0, 3, 0, 12],
      ]) {
        context.moveTo(x + a * unit, y + b * unit);
        context.lineTo(x + c * unit, y + d * unit);
      }
      context.stroke();
    }
  }

  onPointerDown(event) {
    if (!this.bitmap) return;
    // Not of a made event: such a pointer cannot be captured.
    if (event.isTrusted) this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    this.setCursor(null);
    if (this.pointers.size === 2) {
      this.gesture = { pinch: true };
      return;
    }
    const draws = this.tool === "box" && event.button === 0;
    this.gesture = { start: event, last: event, draws, moved: false };
  }

  onPointerMove(event) {
    if (!this.bitmap) return;
    const previous = this.pointers.get(event.pointerId);
    if (this.gesture?.pinch && previous) this.pinch(previous, event);
    if (previous) this.pointers.set(event.pointerId, event);
    const { gesture } = this;
    if (gesture?.start?.pointerId === event.pointerId) this.drag(gesture, event);
    const place = this.placeOf(event);
    this.on.point(place.inside ? place : null);
  }

  drag(gesture, event) {
    const distance = Math.hypot(event.clientX - gesture.start.clientX, event.clientY - gesture.start.clientY);
    gesture.moved ||= distance > CLICK_DISTANCE;
    if (!gesture.moved) return;
    if (gesture.draws) {
      gesture.box = boxOf(
        this.clampToPicture(this.placeOf(gesture.start)),
        this.clampToPicture(this.placeOf(event)),
      );
      this.redraw();
    } else if (!this.fitted) {
      this.moveBy(event.clientX - gesture.last.clientX, event.clientY - gesture.last.clientY);
    }
    gesture.last = event;
  }

  pinch(previous, event) {
    const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    if (!other) return;
    const distanceTo = (pointer) =>
      Math.hypot(pointer.clientX - other.clientX, pointer.clientY - other.clientY);
    const { left, top } = this.size;
    this.zoom(distanceTo(event) / Math.max(distanceTo(previous), 1), [
      (event.clientX + other.clientX) / 2 - left,
      (event.clientY + other.clientY) / 2 - top,
    ]);
    if (!this.fitted)
      this.moveBy((event.clientX - previous.clientX) / 2, (event.clientY - previous.clientY) / 2);
  }

  onPointerUp(event) {
    this.pointers.delete(event.pointerId);
    const { gesture } = this;
    if (!gesture || (gesture.pinch && this.pointers.size)) return;
    this.gesture = null;
    if (gesture.pinch || event.type === "pointercancel") return;
    const place = this.placeOf(event);
    if (gesture.box) this.emitBox(gesture.box);
    else if (!gesture.moved && place.inside) {
      this.on.click({ ...place, negative: event.button === 2 });
    } else if (gesture.moved && !gesture.draws && this.fitted) this.on.nothing();
    this.redraw();
  }

  emitBox([left, top, right, bottom]) {
    const box = [left, top, right, bottom].map(Math.round);
    if (box[2] > box[0] && box[3] > box[1]) this.on.box(box);
  }

  onWheel(event) {
    if (!this.bitmap || (!event.ctrlKey && document.activeElement !== this.canvas)) return;
    event.preventDefault();
    const { left, top } = this.size;
    this.zoom(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), [
      event.clientX - left,
      event.clientY - top,
    ]);
  }

  onKey(event) {
    if (!this.bitmap || event.ctrlKey || event.metaKey || event.altKey) return;
    const directions = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
    const zooms = { "+": 1.25, "=": 1.25, "-": 0.8, 0: 0 };
    if (directions[event.key]) this.moveCursor(directions[event.key], event.shiftKey ? 1 : 10);
    else if (event.key in zooms) zooms[event.key] ? this.zoom(zooms[event.key]) : this.fit();
    else if (event.key === "Enter" && this.cursor) this.pressCursor(event.shiftKey);
    else if (event.key === "Escape" && this.corner) this.corner = null;
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.redraw();
  }

  /** Move the cross by so many pixels of the screen; one of the picture at least. */
  moveCursor([dx, dy], pixels) {
    if (this.tool === "move") {
      this.moveBy(-dx * pixels * 4, -dy * pixels * 4);
      return;
    }
    const by = Math.max(1, Math.round(pixels / this.scale));
    const from = this.cursor ?? { x: Math.round(this.width / 2), y: Math.round(this.height / 2) };
    this.setCursor(this.cursor ? this.clampToPicture({ x: from.x + dx * by, y: from.y + dy * by }) : from);
  }

  setCursor(place) {
    if (this.cursor === place) return;
    this.cursor = place;
    if (!place) this.corner = null;
    this.on.point(place);
    this.redraw();
  }

  pressCursor(negative) {
    if (this.tool !== "box") {
      this.on.click({ ...this.cursor, negative });
      return;
    }
    // Two corners make a box.
    if (!this.corner) {
      this.corner = this.cursor;
      return;
    }
    this.emitBox(boxOf(this.corner, this.cursor));
    this.corner = null;
  }
}

function boxOf(first, second) {
  return [
    Math.min(first.x, second.x),
    Math.min(first.y, second.y),
    Math.max(first.x, second.x),
    Math.max(first.y, second.y),
  ];
}
