// The view `#/functions/NAME/playground`: pictures in, what the function sees in them out.
//
// It sends what CVAT sends, by the way CVAT takes through the dashboard, and draws what comes back.
// Functions that do not look at pictures get the form of plain requests, and the others beside it.

import { KINDS } from "./asking.js";
import { Controls } from "./controls.js";
import { toast } from "./dialogs.js";
import { fill, h, put, sheet } from "./dom.js";
import { drawPrompts, drawShapes } from "./draw.js";
import { download, saved } from "./pictures.js";
import { legend, program, raw, rows, times, verdict } from "./panels.js";
import { showPlain } from "./plain.js";
import { Questions } from "./questions.js";
import { extent, labelsOf } from "./shapes.js";
import { Stage } from "./stage.js";
import { problem, wordOf } from "./states.js";

const WAYS = { pictures: "Pictures", plain: "Plain request" };

// Statuses with which the dashboard answers for a function that has no revision yet.
const NOT_SERVING = [404, 503];

let way = "pictures";

export async function show(root, { name }, { current, onChange, beside, signal }) {
  await sheet("playground.css");
  if (signal.aborted) return undefined;
  const annotations = current()?.metadata?.annotations ?? {};
  if (!KINDS.includes(annotations.type)) {
    showPlain(root, name, signal);
    return undefined;
  }
  const ways = h("div", { class: "chips", role: "group", "aria-label": "Ask with" });
  const place = h("div", { class: "stack" });
  put(beside, ways);
  put(root, place);
  let leave = () => {};
  let playground = null;
  let revision = current()?.status?.revision;
  onChange(look);
  choose(way);
  return () => leave();

  // An error ends with its revision.
  function look(one) {
    const { revision: now } = one?.status ?? {};
    if (!now || now === revision || wordOf(one) !== "ready") return;
    // The page may learn of the first revision after that has replied.
    const isOver = revision ? () => true : ({ status }) => NOT_SERVING.includes(status);
    revision = now;
    playground?.forgetErrors(isOver);
  }

  function choose(wanted) {
    way = wanted;
    leave();
    fill(
      ways,
      Object.entries(WAYS).map(([key, title]) =>
        h(
          "button",
          {
            type: "button",
            class: "chip",
            "aria-pressed": String(key === way),
            onclick: () => key !== way && choose(key),
          },
          title,
        ),
      ),
    );
    if (way === "plain") {
      const stop = new AbortController();
      leave = () => stop.abort();
      showPlain(place, name, AbortSignal.any([signal, stop.signal]));
    } else {
      const made = new Playground(place, name, annotations.type, annotations, signal, current);
      playground = made;
      leave = () => (made.close(), (playground = null));
    }
  }
}

class Playground extends Questions {
  constructor(root, name, kind, annotations, signal, current) {
    super(name, kind, annotations, signal);
    this.current = current;
    this.labels = labelsOf(annotations.spec);
    this.hidden = new Set();
    this.marked = null;
    this.controls = new Controls(this);
    fill(root, this.controls.element);
    this.stage = new Stage(this.controls.canvas, {
      paint: (context, unit, box) => this.paint(context, unit, box),
      on: {
        click: (place) => this.clicked(place),
        box: (box) => this.boxed(box),
        point: (place) => this.controls.place(place),
        nothing: () => this.dragged(),
      },
    });
    this.useTool(this.controls.tools()[0].tool);
    this.drawPanels();
  }

  close() {
    this.playing = false;
    this.controls.close();
    this.stage.close();
    this.source?.close();
  }

  /** Forget errors of an earlier revision: those of which `isOver(error)` is true. */
  forgetErrors(isOver) {
    for (const [place, { error }] of this.results) if (error && isOver(error)) this.results.delete(place);
    this.drawPanels();
  }

  present(picture) {
    this.picture = picture;
    this.stage.show(picture.bitmap, picture.width, picture.height);
    this.controls.place(null);
    this.drawPanels();
  }

  // What a person gives

  useTool(tool) {
    this.tool = tool;
    this.stage.setTool(tool === "box" ? "box" : tool === "move" ? "move" : "point");
    this.controls.drawTools();
  }

  clicked({ x, y, negative }) {
    const at = [Math.round(x), Math.round(y)];
    const { tool, prompt } = this;
    if (tool === "polygon") this.trackPolygon(prompt.corner(at, this.stage.scale));
    else if (tool === "points") this.track({ type: "points", points: at });
    else if (tool === "positive" || tool === "negative") {
      const beside = this.controls.has("negative") && (negative || tool === "negative");
      prompt[beside ? "neg" : "pos"].push(at);
      this.changed();
      return;
    } else this.pick(x, y);
    this.stage.redraw();
    this.controls.drawTools();
  }

  /** A shape that somebody clicks on is shown more strongly. */
  pick(x, y) {
    const within = this.shown().filter((shape) => {
      const [left, top, right, bottom] = this.controls.reach(shape) ?? [1, 1, 0, 0];
      return x >= left && x <= right && y >= top && y <= bottom;
    });
    this.marked = within.sort((a, b) => extent(a) - extent(b))[0] ?? null;
  }

  boxed(box) {
    if (this.kind === "tracker") this.track({ type: "rectangle", points: box });
    else if (this.kind === "reid") this.prompt.boxes.push(box);
    else this.prompt.box = box;
    if (this.kind !== "tracker") this.changed();
  }

  // A drag with a tool that only clicks: the whole picture is in sight and cannot be moved.
  dragged() {
    if (this.tool === "move") return;
    this.say(
      `A drag does nothing here: click${this.controls.has("box") ? ", or draw with the tool Box" : ""}.`,
    );
  }

  trackPolygon(points) {
    if (points) this.track({ type: "polygon", points });
  }

  /** What was given has changed: ask again if it is enough. */
  changed() {
    if (this.kind === "reid") this.results.clear();
    this.stage.redraw();
    this.controls.drawTools();
    if (this.lacking()) {
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
    else this.changed();
  }

  clear() {
    this.prompts.delete(this.index);
    if (this.kind === "tracker") this.tracks.clear();
    this.results.delete(this.index);
    if (this.kind === "detector") this.drawPanels();
    else this.changed();
  }

  opened() {
    this.controls.opened();
  }

  say(text) {
    this.controls.say(text);
  }

  busy(is) {
    this.controls.busy(is);
  }

  fail(error) {
    this.say("");
    fill(this.controls.panels.trouble, problem(error));
  }

  // Showing

  /** The shapes of the reply that are to be drawn: sure enough, and of a label that is shown. */
  shown() {
    const shapes = this.kind === "tracker" ? this.tracks.shapes(this.index) : (this.result?.shapes ?? []);
    const sure = (shape) => shape.confidence === null || shape.confidence >= this.threshold;
    return shapes.filter((shape) => sure(shape) && !this.hidden.has(shape.label));
  }

  /** The boxes of re-identification, those that belong together alike. */
  pairs() {
    const { isSecond } = this.pair;
    const matches = this.result?.matches;
    return this.prompt.boxes.map((points, i) => {
      const index = isSecond ? (matches?.indexOf(i) ?? -1) : i;
      const known = matches && (isSecond ? index >= 0 : matches[i] >= 0);
      const label = known ? `#${index + 1}` : "";
      return {
        type: "rectangle",
        points,
        label,
        elements: [],
        attributes: [],
        rotation: 0,
        confidence: null,
        ...(known && { index }),
      };
    });
  }

  paint(context, unit, box = null) {
    const { labels, marked, prompt } = this;
    const shapes = this.kind === "reid" ? this.pairs() : this.shown();
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
    download(await saved(this.picture, (context, unit) => this.paint(context, unit)), name);
    toast(`${name} is saved with what is drawn`);
  }

  drawPanels() {
    const { controls, result } = this;
    const log = `#/functions/${encodeURIComponent(this.name)}/logs`;
    fill(controls.panels.trouble, result?.error && problem(result.error, h("a", { href: log }, "Its log")));
    const answered = result?.text !== undefined;
    controls.reveal("times", answered && times(result));
    controls.reveal(
      "verdict",
      result?.findings
        ? verdict(result.findings, this.absence())
        : result?.unjudged && problem(result.unjudged),
    );
    controls.fold("program", result && (() => program(this.name, result.entries)));
    controls.fold("raw", answered && (() => raw(result.text)));
    this.say(
      result && !result.error && result.unread
        ? `${result.unread} of the results cannot be drawn.`
        : this.lacking(),
    );
    controls.drawTools();
    controls.drawStrip();
    this.drawResults();
  }

  /** Why CVAT does not list the function, "" when it does. */
  absence() {
    const { setAside, notes = [] } = this.current()?.status ?? {};
    return setAside ? `set aside: ${setAside}` : notes.join("; ");
  }

  /** What depends on the threshold and on hidden labels. */
  drawResults() {
    const { controls, result, labels } = this;
    const shapes = this.kind === "reid" && this.source ? this.pairs() : this.shown();
    const all = this.kind === "tracker" ? [] : (result?.shapes ?? []);
    const sure = all.filter((shape) => shape.confidence === null || shape.confidence >= this.threshold);
    fill(
      controls.panels.legend,
      legend(sure, labels, this.hidden, (label) => this.toggle(label)),
    );
    fill(
      controls.panels.results,
      rows(shapes, labels, (shape) => this.mark(shape)),
    );
    controls.count(shapes.length, all.length - sure.length);
    this.stage.redraw();
  }
}
