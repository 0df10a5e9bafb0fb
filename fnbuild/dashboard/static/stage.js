// A picture on a canvas that users move, enlarge and draw on.
//
// Mouse, touch and pen: a drag draws a box with the tool `box` and moves the picture with any other; the
// wheel (with Ctrl, or when the canvas has the focus) and two fingers zoom. Keys: arrows move a cursor,
// Enter clicks at it, + - 0 zoom.

import { contextOf } from "./dom.js";

/** @typedef {{x: number, y: number}} Position */

/**
 * @typedef {object} StageHandlers
 * @property {(click: Position & {negative: boolean}) => void} click
 * @property {(box: Box) => void} box
 * @property {(position: Position | null) => void} hover
 * @property {() => void} idleDrag called after a drag without effect
 */

/**
 * @typedef {object} Gesture
 * @property {PointerEvent} start
 * @property {PointerEvent} last
 * @property {boolean} draws
 * @property {boolean} moved
 * @property {boolean} pinch
 * @property {Box} [box]
 */

const CLICK_DISTANCE = 4;
const MAX_SCALE = 40;
/** @type {Record<string, number[]>} */
const DIRECTIONS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };
/** @type {Record<string, number>} */
const ZOOM_FACTORS = { "+": 1.25, "=": 1.25, "-": 0.8, 0: 0 };

export class Stage {
  /**
   * `paint(context, unit, box)` draws over the picture in its coordinates; `unit` is the width of a pixel of
   * the screen there, `box` is being drawn.
   *
   * @param {HTMLCanvasElement} canvas
   * @param {(context: CanvasRenderingContext2D, unit: number, box: Box | null) => void} paint
   * @param {StageHandlers} handlers
   */
  constructor(canvas, paint, handlers) {
    this.canvas = canvas;
    this.paint = paint;
    this.handlers = handlers;
    this.context = contextOf(canvas);
    this.tool = "move";
    /** @type {CanvasImageSource | null} */
    this.bitmap = null;
    this.width = this.height = 0;
    this.scale = 1;
    this.x = this.y = 0;
    this.fitted = true;
    this.frame = 0;
    /** @type {Position | null} */
    this.cursor = null;
    /** @type {Position | null} */
    this.corner = null;
    /** @type {Map<number, PointerEvent>} */
    this.pointers = new Map();
    /** @type {Gesture | null} */
    this.gesture = null;
    this.observer = new ResizeObserver(() => this.resize());
    this.observer.observe(canvas);
    const options = { passive: false };
    canvas.addEventListener("pointerdown", (event) => this.onPointerDown(event), options);
    canvas.addEventListener("pointermove", (event) => this.onPointerMove(event), options);
    canvas.addEventListener("pointerup", (event) => this.onPointerUp(event), options);
    canvas.addEventListener("pointercancel", (event) => this.onPointerUp(event), options);
    canvas.addEventListener("pointerleave", () => handlers.hover(null));
    canvas.addEventListener("wheel", (event) => this.onWheel(event), options);
    canvas.addEventListener("keydown", (event) => this.onKey(event));
    canvas.addEventListener("contextmenu", (event) => event.preventDefault());
    canvas.addEventListener("blur", () => this.setCursor(null));
  }

  close() {
    this.observer.disconnect();
    cancelAnimationFrame(this.frame);
  }

  /**
   * Show a picture; one of the same size keeps position and zoom.
   *
   * @param {CanvasImageSource} bitmap
   * @param {number} width
   * @param {number} height
   */
  show(bitmap, width, height) {
    const same = this.bitmap && this.width === width && this.height === height;
    Object.assign(this, { bitmap, width, height });
    this.canvas.style.aspectRatio = `${width} / ${height}`;
    if (!same) this.cursor = null;
    if (!same || this.fitted) this.fit();
    this.redraw();
  }

  /** @param {string} tool */
  setTool(tool) {
    this.tool = tool;
    this.gesture = null;
    // A finger scrolls the page unless the tool draws.
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

  /**
   * Zoom by a factor about a point of the canvas, its centre by default.
   *
   * @param {number} factor
   * @param {number[] | null} center
   */
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

  /**
   * Move the picture, part of which stays visible.
   *
   * @param {number} dx
   * @param {number} dy
   */
  moveBy(dx, dy) {
    const { width, height } = this.size;
    /**
     * @param {number} position
     * @param {number} length
     * @param {number} available
     */
    const clampPosition = (position, length, available) =>
      length <= available ? (available - length) / 2 : Math.min(Math.max(position, available - length), 0);
    this.x = clampPosition(this.x + dx, this.width * this.scale, width);
    this.y = clampPosition(this.y + dy, this.height * this.scale, height);
    this.redraw();
  }

  /**
   * Convert a position in the window to one in the picture.
   *
   * @param {MouseEvent} event
   */
  positionOf(event) {
    const { left, top } = this.size;
    const x = (event.clientX - left - this.x) / this.scale;
    const y = (event.clientY - top - this.y) / this.scale;
    return { x, y, inside: x >= 0 && y >= 0 && x <= this.width && y <= this.height };
  }

  /** @param {Position} position */
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
    if (this.cursor) this.drawCursor(this.cursor, 1 / this.scale);
  }

  /**
   * @param {Position} cursor
   * @param {number} unit
   */
  drawCursor({ x, y }, unit) {
    const { context } = this;
    for (const { width, colour } of [
      { width: 3.5, colour: "rgb(16 18 22 / 0.6)" },
      { width: 1.5, colour: "white" },
    ]) {
      context.lineWidth = width * unit;
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

  /** @param {PointerEvent} event */
  onPointerDown(event) {
    if (!this.bitmap) return;
    // The pointer of a synthetic event cannot be captured.
    if (event.isTrusted) this.canvas.setPointerCapture(event.pointerId);
    this.pointers.set(event.pointerId, event);
    this.setCursor(null);
    if (this.pointers.size === 2) {
      this.gesture = { start: event, last: event, draws: false, moved: false, pinch: true };
      return;
    }
    const draws = this.tool === "box" && event.button === 0;
    this.gesture = { start: event, last: event, draws, moved: false, pinch: false };
  }

  /** @param {PointerEvent} event */
  onPointerMove(event) {
    if (!this.bitmap) return;
    const previous = this.pointers.get(event.pointerId);
    if (this.gesture?.pinch && previous) this.pinch(previous, event);
    if (previous) this.pointers.set(event.pointerId, event);
    const { gesture } = this;
    if (gesture && !gesture.pinch && gesture.start.pointerId === event.pointerId) this.drag(gesture, event);
    const position = this.positionOf(event);
    this.handlers.hover(position.inside ? position : null);
  }

  /**
   * @param {Gesture} gesture
   * @param {PointerEvent} event
   */
  drag(gesture, event) {
    const distance = Math.hypot(event.clientX - gesture.start.clientX, event.clientY - gesture.start.clientY);
    gesture.moved ||= distance > CLICK_DISTANCE;
    if (!gesture.moved) return;
    if (gesture.draws) {
      gesture.box = boxOf(
        this.clampToPicture(this.positionOf(gesture.start)),
        this.clampToPicture(this.positionOf(event)),
      );
      this.redraw();
    } else if (!this.fitted) {
      this.moveBy(event.clientX - gesture.last.clientX, event.clientY - gesture.last.clientY);
    }
    gesture.last = event;
  }

  /**
   * @param {PointerEvent} previous
   * @param {PointerEvent} event
   */
  pinch(previous, event) {
    const other = [...this.pointers.values()].find((pointer) => pointer.pointerId !== event.pointerId);
    if (!other) return;
    /** @param {PointerEvent} pointer */
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

  /** @param {PointerEvent} event */
  onPointerUp(event) {
    this.pointers.delete(event.pointerId);
    const { gesture } = this;
    if (!gesture || (gesture.pinch && this.pointers.size)) return;
    this.gesture = null;
    if (gesture.pinch || event.type === "pointercancel") return;
    const position = this.positionOf(event);
    if (gesture.box) this.emitBox(gesture.box);
    else if (!gesture.moved && position.inside) {
      this.handlers.click({ ...position, negative: event.button === 2 });
    } else if (gesture.moved && !gesture.draws && this.fitted) this.handlers.idleDrag();
    this.redraw();
  }

  /** @param {Box} box */
  emitBox([left, top, right, bottom]) {
    const box = [left, top, right, bottom].map(Math.round);
    if (box[2] > box[0] && box[3] > box[1]) this.handlers.box(box);
  }

  /** @param {WheelEvent} event */
  onWheel(event) {
    if (!this.bitmap || (!event.ctrlKey && document.activeElement !== this.canvas)) return;
    event.preventDefault();
    const { left, top } = this.size;
    this.zoom(Math.exp(-event.deltaY / (event.ctrlKey ? 100 : 400)), [
      event.clientX - left,
      event.clientY - top,
    ]);
  }

  /** @param {KeyboardEvent} event */
  onKey(event) {
    if (!this.bitmap || event.ctrlKey || event.metaKey || event.altKey) return;
    if (DIRECTIONS[event.key]) this.moveCursor(DIRECTIONS[event.key], event.shiftKey ? 1 : 10);
    else if (event.key in ZOOM_FACTORS)
      ZOOM_FACTORS[event.key] ? this.zoom(ZOOM_FACTORS[event.key]) : this.fit();
    else if (event.key === "Enter" && this.cursor) this.pressCursor(event.shiftKey);
    else if (event.key === "Escape" && this.corner) this.corner = null;
    else return;
    event.preventDefault();
    event.stopPropagation();
    this.redraw();
  }

  /**
   * Move the cursor by a number of pixels of the screen, at least one of the picture.
   *
   * @param {number[]} direction
   * @param {number} pixels
   */
  moveCursor([dx, dy], pixels) {
    if (this.tool === "move") {
      this.moveBy(-dx * pixels * 4, -dy * pixels * 4);
      return;
    }
    const step = Math.max(1, Math.round(pixels / this.scale));
    const { cursor } = this;
    this.setCursor(
      cursor
        ? this.clampToPicture({ x: cursor.x + dx * step, y: cursor.y + dy * step })
        : { x: Math.round(this.width / 2), y: Math.round(this.height / 2) },
    );
  }

  /** @param {Position | null} position */
  setCursor(position) {
    if (this.cursor === position) return;
    this.cursor = position;
    if (!position) this.corner = null;
    this.handlers.hover(position);
    this.redraw();
  }

  /** @param {boolean} negative */
  pressCursor(negative) {
    const { corner, cursor } = this;
    if (!cursor) return;
    if (this.tool !== "box") this.handlers.click({ ...cursor, negative });
    else if (!corner) this.corner = cursor;
    else {
      this.emitBox(boxOf(corner, cursor));
      this.corner = null;
    }
  }
}

/**
 * @param {Position} first
 * @param {Position} second
 * @returns {Box}
 */
function boxOf(first, second) {
  return [
    Math.min(first.x, second.x),
    Math.min(first.y, second.y),
    Math.max(first.x, second.x),
    Math.max(first.y, second.y),
  ];
}
