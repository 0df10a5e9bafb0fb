// The view `#/functions/NAME/playground`: pictures in, what the function sees in them out.
//
// It sends what CVAT sends, by the way CVAT takes through the dashboard, and draws what comes back.
// Functions that do not look at pictures get the form of plain requests, and the others beside it.

import { MODEL_TYPES } from "./cvat_requests.js";
import { Controls } from "./controls.js";
import { toast } from "./dialogs.js";
import { setChildren, h, append, loadStyleSheet } from "./dom.js";
import { drawPrompts, drawShapes } from "./draw.js";
import { download, renderDrawing } from "./pictures.js";
import { labelButtons, programPanel, rawPanel, resultRows, timingPanel, findingsPanel } from "./panels.js";
import { showRawRequest } from "./raw_request.js";
import { PlaygroundModel } from "./playground_model.js";
import { extent, labelsOf } from "./shapes.js";
import { Stage } from "./stage.js";
import { errorBox, stateOf } from "./states.js";

const MODES = { pictures: "Pictures", plain: "Plain request" };

// Statuses with which the dashboard answers for a function that has no revision yet.
const NOT_SERVING_STATUSES = [404, 503];

let activeMode = "pictures";

export async function show(root, { name }, { current, onChange, beside: isNegative, signal }) {
  await loadStyleSheet("playground.css");
  if (signal.aborted) return undefined;
  const annotations = current()?.metadata?.annotations ?? {};
  if (!MODEL_TYPES.includes(annotations.type)) {
    showRawRequest(root, name, signal);
    return undefined;
  }
  const modeButtons = h("div", { class: "chips", role: "group", "aria-label": "Ask with" });
  const container = h("div", { class: "stack" });
  append(isNegative, modeButtons);
  append(root, container);
  let leaveMode = () => {};
  let playground = null;
  let revision = current()?.status?.revision;
  onChange(onUpdate);
  showMode(activeMode);
  return () => leaveMode();

  // An error ends with its revision.
  function onUpdate(fn) {
    const { revision: newRevision } = fn?.status ?? {};
    if (!newRevision || newRevision === revision || stateOf(fn) !== "ready") return;
    // The page may learn of the first revision after that has replied.
    const isOutdated = revision ? () => true : ({ status }) => NOT_SERVING_STATUSES.includes(status);
    revision = newRevision;
    playground?.forgetErrors(isOutdated);
  }

  function showMode(mode) {
    activeMode = mode;
    leaveMode();
    setChildren(
      modeButtons,
      Object.entries(MODES).map(([key, title]) =>
        h(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(key === activeMode),
            onclick: () => key !== activeMode && showMode(key),
          },
          title,
        ),
      ),
    );
    if (activeMode === "plain") {
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

class Playground extends PlaygroundModel {
  constructor(root, name, kind, annotations, signal, current) {
    super(name, kind, annotations, signal);
    this.current = current;
    this.labels = labelsOf(annotations.spec);
    this.hidden = new Set();
    this.marked = null;
    this.controls = new Controls(this);
    setChildren(root, this.controls.element);
    this.stage = new Stage(this.controls.canvas, {
      paint: (context, unit, box) => this.paint(context, unit, box),
      on: {
        click: (container) => this.onClick(container),
        box: (box) => this.onBox(box),
        point: (container) => this.controls.showPosition(container),
        nothing: () => this.onDrag(),
      },
    });
    this.useTool(this.controls.availableTools()[0].tool);
    this.drawPanels();
  }

  close() {
    this.playing = false;
    this.controls.close();
    this.stage.close();
    this.source?.close();
  }

  /** Forget errors of an earlier revision: those of which `isOver(error)` is true. */
  forgetErrors(isOutdated) {
    for (const [container, { error }] of this.results)
      if (error && isOutdated(error)) this.results.delete(container);
    this.drawPanels();
  }

  present(picture) {
    this.picture = picture;
    this.stage.show(picture.bitmap, picture.width, picture.height);
    this.controls.showPosition(null);
    this.drawPanels();
  }

  // What a person gives

  useTool(tool) {
    this.tool = tool;
    this.stage.setTool(tool === "box" ? "box" : tool === "move" ? "move" : "point");
    this.controls.drawTools();
  }

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

  /** A shape that somebody clicks on is shown more strongly. */
  markShapeAt(x, y) {
    const candidates = this.visibleShapes().filter((shape) => {
      const [left, top, right, bottom] = this.controls.clickArea(shape) ?? [1, 1, 0, 0];
      return x >= left && x <= right && y >= top && y <= bottom;
    });
    this.marked = candidates.sort((a, b) => extent(a) - extent(b))[0] ?? null;
  }

  onBox(box) {
    if (this.kind === "tracker") this.track({ type: "rectangle", points: box });
    else if (this.kind === "reid") this.prompt.boxes.push(box);
    else this.prompt.box = box;
    if (this.kind !== "tracker") this.promptsChanged();
  }

  // A drag with a tool that only clicks: the whole picture is in sight and cannot be moved.
  onDrag() {
    if (this.tool === "move") return;
    this.setStatus(
      `A drag does nothing here: click${this.controls.hasTool("box") ? ", or draw with the tool Box" : ""}.`,
    );
  }

  trackPolygon(points) {
    if (points) this.track({ type: "polygon", points });
  }

  /** What was given has changed: ask again if it is enough. */
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

  setStatus(text) {
    this.controls.setStatus(text);
  }

  setBusy(is) {
    this.controls.setBusy(is);
  }

  showError(error) {
    this.setStatus("");
    setChildren(this.controls.panels.trouble, errorBox(error));
  }

  // Showing

  /** The shapes of the reply that are to be drawn: sure enough, and of a label that is shown. */
  visibleShapes() {
    const shapes = this.kind === "tracker" ? this.tracks.shapes(this.index) : (this.result?.shapes ?? []);
    const isConfident = (shape) => shape.confidence === null || shape.confidence >= this.threshold;
    return shapes.filter((shape) => isConfident(shape) && !this.hidden.has(shape.label));
  }

  /** The boxes of re-identification, those that belong together alike. */
  matchedBoxes() {
    const { isSecond } = this.pair;
    const matches = this.result?.matches;
    return this.prompt.boxes.map((points, i) => {
      const index = isSecond ? (matches?.indexOf(i) ?? -1) : i;
      const isMatched = matches && (isSecond ? index >= 0 : matches[i] >= 0);
      const label = isMatched ? `#${index + 1}` : "";
      return {
        type: "rectangle",
        points,
        label,
        elements: [],
        attributes: [],
        rotation: 0,
        confidence: null,
        ...(isMatched && { index }),
      };
    });
  }

  paint(context, unit, box = null) {
    const { labels, marked, prompt } = this;
    const shapes = this.kind === "reid" ? this.matchedBoxes() : this.visibleShapes();
    drawShapes(context, shapes, { unit, labels, marked });
    const boxes = [prompt.box, box].filter(Boolean);
    drawPrompts(context, { pos: prompt.pos, neg: prompt.neg, corners: prompt.corners, boxes }, unit);
  }

  toggle(label) {
    if (!this.hidden.delete(label)) this.hidden.add(label);
    this.drawResults();
    this.controls.panels.legend.querySelector(`[data-label="${CSS.escape(label)}"]`)?.focus();
  }

  mark(shape) {
    this.marked = shape;
    this.stage.redraw();
  }

  setThreshold(value) {
    this.threshold = value;
    this.drawResults();
  }

  async save() {
    const name = `${this.picture.name.replace(/\.[^.]*$/, "")}-${this.name}.png`;
    download(await renderDrawing(this.picture, (context, unit) => this.paint(context, unit)), name);
    toast(`${name} is saved with what is drawn`);
  }

  drawPanels() {
    const { controls, result } = this;
    const log = `#/functions/${encodeURIComponent(this.name)}/logs`;
    setChildren(
      controls.panels.trouble,
      result?.error && errorBox(result.error, h("a", { href: log }, "Its log")),
    );
    const hasReply = result?.text !== undefined;
    controls.showPanel("times", hasReply && timingPanel(result));
    controls.showPanel(
      "verdict",
      result?.findings
        ? findingsPanel(result.findings, this.exclusion())
        : result?.unjudged && errorBox(result.unjudged),
    );
    controls.setFoldedPanel("program", result && (() => programPanel(this.name, result.entries)));
    controls.setFoldedPanel("raw", hasReply && (() => rawPanel(result.text)));
    this.setStatus(
      result && !result.error && result.skipped
        ? `${result.skipped} of the results cannot be drawn.`
        : this.missingInput(),
    );
    controls.drawTools();
    controls.drawStrip();
    this.drawResults();
  }

  /** Why CVAT does not list the function, "" when it does. */
  exclusion() {
    const { setAside, notes = [] } = this.current()?.status ?? {};
    return setAside ? `set aside: ${setAside}` : notes.join("; ");
  }

  /** What depends on the threshold and on hidden labels. */
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
