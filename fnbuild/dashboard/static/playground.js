// The tab `#/functions/NAME/playground`: requests with pictures, as CVAT sends them through the dashboard,
// and their results. Functions that are not models get the form of raw requests, models as a second mode.

import { MODEL_TYPES } from "./cvat_requests.js";
import { Controls } from "./controls.js";
import { toast } from "./dialogs.js";
import { append, button, h, loadStyleSheet, setChildren } from "./dom.js";
import { drawPrompts, drawShapes } from "./draw.js";
import { download, renderDrawing } from "./pictures.js";
import { findingsPanel, labelButtons, programPanel, rawPanel, resultRows, timingPanel } from "./panels.js";
import { showRawRequest } from "./raw_request.js";
import { PlaygroundModel } from "./playground_model.js";
import { EMPTY_SHAPE, extent, labelsOf } from "./shapes.js";
import { Stage } from "./stage.js";
import { errorBox, stateOf } from "./states.js";

/** @type {Record<string, string>} */
const MODES = { pictures: "Pictures", raw: "Raw request" };

// Statuses with which the dashboard answers for a function that has no revision yet.
const NOT_SERVING_STATUSES = [404, 503];

let activeMode = "pictures";

/**
 * @param {HTMLElement} root
 * @param {Record<string, string>} params
 * @param {TabContext} context
 */
export async function show(root, { name }, { current, onChange, tabTools, signal }) {
  await loadStyleSheet("playground.css");
  if (signal.aborted) return undefined;
  const annotations = current()?.metadata?.annotations ?? {};
  if (!MODEL_TYPES.includes(annotations.type)) {
    showRawRequest(root, name, signal);
    return undefined;
  }
  const modeButtons = h("div", { class: "chips", role: "group", "aria-label": "Mode" });
  const container = h("div", { class: "stack" });
  append(tabTools, modeButtons);
  append(root, container);
  let leaveMode = () => {};
  /** @type {Playground | null} */
  let playground = null;
  let revision = current()?.status?.revision;
  onChange(onUpdate);
  showMode(activeMode);
  return () => leaveMode();

  /**
   * Forget errors of the previous revision.
   *
   * @param {FunctionObject | null} fn
   */
  function onUpdate(fn) {
    const { revision: newRevision } = fn?.status ?? {};
    if (!newRevision || newRevision === revision || stateOf(fn) !== "ready") return;
    // The page may learn of the first revision after that has replied.
    /** @param {any} error */
    const isOutdated = (error) => Boolean(revision) || NOT_SERVING_STATUSES.includes(error.status);
    playground?.forgetErrors(isOutdated);
    revision = newRevision;
  }

  /** @param {string} mode */
  function showMode(mode) {
    activeMode = mode;
    leaveMode();
    setChildren(
      modeButtons,
      Object.entries(MODES).map(([key, title]) =>
        button(title, () => key !== activeMode && showMode(key), {
          class: "chip",
          "aria-pressed": String(key === activeMode),
        }),
      ),
    );
    if (activeMode === "raw") {
      const stop = new AbortController();
      leaveMode = () => stop.abort();
      showRawRequest(container, name, AbortSignal.any([signal, stop.signal]));
    } else {
      const newPlayground = new Playground(container, name, annotations.type, annotations, signal, current);
      playground = newPlayground;
      leaveMode = () => (newPlayground.close(), (playground = null));
    }
  }
}

export class Playground extends PlaygroundModel {
  /**
   * @param {Element} root
   * @param {string} name
   * @param {string} kind
   * @param {Record<string, string>} annotations
   * @param {AbortSignal} signal
   * @param {TabContext["current"]} current
   */
  constructor(root, name, kind, annotations, signal, current) {
    super(name, kind, annotations, signal);
    this.current = current;
    this.labels = labelsOf(annotations.spec);
    /** @type {Set<string>} */
    this.hidden = new Set();
    /** @type {Shape | null} */
    this.marked = null;
    this.controls = new Controls(this);
    setChildren(root, this.controls.element);
    /** @type {import("./stage.js").StageHandlers} */
    const handlers = {
      click: (click) => this.onClick(click),
      box: (box) => this.onBox(box),
      hover: (position) => this.controls.showPosition(position),
      idleDrag: () => this.onIdleDrag(),
    };
    this.stage = new Stage(
      this.controls.canvas,
      (context, unit, box) => this.paint(context, unit, box),
      handlers,
    );
    this.tool = "";
    this.useTool(this.controls.availableTools()[0].tool);
    this.drawPanels();
  }

  close() {
    this.playing = false;
    this.controls.close();
    this.stage.close();
    this.source?.close();
  }

  /**
   * Forget the errors for which `isOutdated` returns true.
   *
   * @param {(error: any) => boolean} isOutdated
   */
  forgetErrors(isOutdated) {
    for (const [frame, { error }] of this.results) if (error && isOutdated(error)) this.results.delete(frame);
    this.drawPanels();
  }

  /** @param {Picture} picture */
  present(picture) {
    this.picture = picture;
    this.stage.show(picture.bitmap, picture.width, picture.height);
    this.controls.showPosition(null);
    this.drawPanels();
  }

  // Input

  /** @param {string} tool */
  useTool(tool) {
    this.tool = tool;
    this.stage.setTool(tool === "box" ? "box" : tool === "move" ? "move" : "point");
    this.controls.drawTools();
  }

  /** @param {{x: number, y: number, negative: boolean}} click */
  onClick({ x, y, negative }) {
    const point = [Math.round(x), Math.round(y)];
    const { tool, prompt } = this;
    if (tool === "polygon") this.trackPolygon(prompt.addCorner(point, this.stage.scale));
    else if (tool === "points") this.track({ type: "points", points: point });
    else if (tool === "positive" || tool === "negative") {
      const isNegative = this.controls.hasTool("negative") && (negative || tool === "negative");
      prompt[isNegative ? "neg" : "pos"].push(point);
      this.promptsChanged();
      return;
    } else this.markShapeAt(x, y);
    this.stage.redraw();
    this.controls.drawTools();
  }

  /**
   * Highlight the smallest shape at a position.
   *
   * @param {number} x
   * @param {number} y
   */
  markShapeAt(x, y) {
    const candidates = this.visibleShapes().filter((shape) => {
      const [left, top, right, bottom] = this.controls.clickArea(shape) ?? [1, 1, 0, 0];
      return x >= left && x <= right && y >= top && y <= bottom;
    });
    this.marked = candidates.sort((a, b) => extent(a) - extent(b))[0] ?? null;
  }

  /** @param {Box} box */
  onBox(box) {
    if (this.kind === "tracker") this.track({ type: "rectangle", points: box });
    else if (this.kind === "reid") this.prompt.boxes.push(box);
    else this.prompt.box = box;
    if (this.kind !== "tracker") this.promptsChanged();
  }

  /** Explain why a drag had no effect: the tool only clicks, and the whole picture is visible. */
  onIdleDrag() {
    if (this.tool === "move") return;
    this.setStatus(
      `A drag does nothing here: click${this.controls.hasTool("box") ? ", or draw with the tool Box" : ""}.`,
    );
  }

  /** @param {number[] | null} points */
  trackPolygon(points) {
    if (points) this.track({ type: "polygon", points });
  }

  /** Send a request if the changed input is complete. */
  promptsChanged() {
    if (this.kind === "reid") this.results.clear();
    this.stage.redraw();
    this.controls.drawTools();
    if (this.missingInput()) {
      this.results.delete(this.index);
      this.drawPanels();
    } else this.run();
  }

  undo() {
    const { prompt } = this;
    if (prompt.corners.length) prompt.corners.pop();
    else if (this.kind === "tracker") {
      this.tracks.undo(this.index);
      this.results.delete(this.index);
    } else prompt.undo();
    if (this.kind === "tracker") this.drawPanels();
    else this.promptsChanged();
  }

  clear() {
    this.prompts.delete(this.index);
    if (this.kind === "tracker") this.tracks.clear();
    this.results.delete(this.index);
    if (this.kind === "detector") this.drawPanels();
    else this.promptsChanged();
  }

  onSourceOpened() {
    this.controls.onSourceOpened();
  }

  /** @param {string} text */
  setStatus(text) {
    this.controls.setStatus(text);
  }

  /** @param {boolean} isBusy */
  setBusy(isBusy) {
    this.controls.setBusy(isBusy);
  }

  /** @param {any} error */
  showError(error) {
    this.setStatus("");
    setChildren(this.controls.panels.error, errorBox(error));
  }

  // Output

  /** Return the shapes above the threshold whose label is not hidden. */
  visibleShapes() {
    const shapes = this.kind === "tracker" ? this.tracks.shapes(this.index) : (this.result?.shapes ?? []);
    /** @param {Shape} shape */
    const isConfident = (shape) => shape.confidence === null || shape.confidence >= this.threshold;
    return shapes.filter((shape) => isConfident(shape) && !this.hidden.has(shape.label));
  }

  /**
   * Return the boxes of re-identification; matched ones have the same index.
   *
   * @returns {Shape[]}
   */
  matchedBoxes() {
    const { isSecond } = this.pair;
    const matches = this.result?.matches;
    return this.prompt.boxes.map((points, i) => {
      const index = isSecond ? (matches?.indexOf(i) ?? -1) : i;
      const isMatched = matches && (isSecond ? index >= 0 : matches[i] >= 0);
      const label = isMatched ? `#${index + 1}` : "";
      return { ...EMPTY_SHAPE, type: "rectangle", points, label, ...(isMatched && { index }) };
    });
  }

  /**
   * @param {CanvasRenderingContext2D} context
   * @param {number} unit
   * @param {Box | null} [box]
   */
  paint(context, unit, box = null) {
    const { labels, marked, prompt } = this;
    const shapes = this.kind === "reid" ? this.matchedBoxes() : this.visibleShapes();
    drawShapes(context, shapes, { unit, labels, marked });
    const { pos, neg, corners } = prompt;
    const boxes = [prompt.box, box].flatMap((drawn) => (drawn ? [drawn] : []));
    drawPrompts(context, { pos, neg, corners, boxes }, unit);
  }

  /** @param {string} label */
  toggle(label) {
    if (!this.hidden.delete(label)) this.hidden.add(label);
    this.drawResults();
    /** @type {HTMLElement | null} */
    const chip = this.controls.panels.legend.querySelector(`[data-label="${CSS.escape(label)}"]`);
    chip?.focus();
  }

  /** @param {Shape | null} shape */
  mark(shape) {
    this.marked = shape;
    this.stage.redraw();
  }

  /** @param {number} value */
  setThreshold(value) {
    this.threshold = value;
    this.drawResults();
  }

  async save() {
    const { picture } = this;
    if (!picture) return;
    const name = `${picture.name.replace(/\.[^.]*$/, "")}-${this.name}.png`;
    download(await renderDrawing(picture, (context, unit) => this.paint(context, unit)), name);
    toast(`${name} is saved with the drawing`);
  }

  drawPanels() {
    const { controls, result } = this;
    const log = `#/functions/${encodeURIComponent(this.name)}/logs`;
    setChildren(controls.panels.error, result?.error && errorBox(result.error, h("a", { href: log }, "Log")));
    const response = result?.response;
    controls.showPanel("times", response && timingPanel(response));
    controls.showPanel(
      "findings",
      result?.findings
        ? findingsPanel(result.findings, this.exclusion())
        : result?.checkError && errorBox(result.checkError),
    );
    controls.setFoldedPanel("program", result ? () => programPanel(this.name, result.entries) : null);
    controls.setFoldedPanel("raw", response ? () => rawPanel(response.text) : null);
    this.setStatus(
      result && !result.error && result.skipped
        ? `${result.skipped} of the results cannot be drawn.`
        : this.missingInput(),
    );
    controls.drawTools();
    controls.drawStrip();
    this.drawResults();
  }

  /** Return the reason why CVAT does not list the function, "" if it does. */
  exclusion() {
    const { setAside, notes = [] } = this.current()?.status ?? {};
    return setAside ? `excluded: ${setAside}` : notes.join("; ");
  }

  /** Draw what depends on the threshold and on hidden labels. */
  drawResults() {
    const { controls, result, labels } = this;
    const shapes = this.kind === "reid" && this.source ? this.matchedBoxes() : this.visibleShapes();
    const allShapes = this.kind === "tracker" ? [] : (result?.shapes ?? []);
    const confident = allShapes.filter(
      (shape) => shape.confidence === null || shape.confidence >= this.threshold,
    );
    setChildren(
      controls.panels.legend,
      labelButtons(confident, labels, this.hidden, (label) => this.toggle(label)),
    );
    setChildren(
      controls.panels.results,
      resultRows(shapes, labels, (shape) => this.mark(shape)),
    );
    controls.setCount(shapes.length, allShapes.length - confident.length);
    this.stage.redraw();
  }
}
