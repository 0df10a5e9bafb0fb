// The controls of the playground: sources of pictures, tools, the strip of frames, panels.

import { button, h, setChildren } from "./dom.js";
import { listen } from "./input_events.js";
import { ignoredFilesText, SAMPLES } from "./pictures.js";
import { bounds } from "./shapes.js";

/** @typedef {Record<"tool" | "name" | "key" | "title", string>} Tool */

/** @type {Record<string, Tool>} */
const TOOLS = {
  move: { tool: "move", name: "Move", key: "m", title: "Move the picture" },
  positive: { tool: "positive", name: "+ Include", key: "a", title: "Points on the object" },
  negative: {
    tool: "negative",
    name: "− Exclude",
    key: "x",
    title: "Points outside the object; the right button does the same",
  },
  box: { tool: "box", name: "Box", key: "b", title: "Draw a box" },
  polygon: {
    tool: "polygon",
    name: "Polygon",
    key: "l",
    title: "Click the corners; Enter or the first corner closes it",
  },
  points: { tool: "points", name: "Point", key: "a", title: "Track a point" },
};

/** @param {string} kind */
function keysOf(kind) {
  const exclude = kind === "interactor" ? " (Shift+Enter excludes)" : "";
  const undo = kind === "detector" ? "" : ", Backspace removes the last one";
  return (
    `Keys in the picture: arrows move a cursor, Enter clicks at it${exclude}, + − 0 zoom${undo}; ` +
    ", and . go to the previous and next picture, p plays."
  );
}

export class Controls {
  /** @param {import("./playground.js").Playground} playground */
  constructor(playground) {
    this.playground = playground;
    this.canvas = h("canvas", {
      class: "picture",
      tabindex: 0,
      role: "img",
      "aria-label": "The picture with the results drawn over it",
      "aria-describedby": "playground-keys",
    });
    /** @type {Record<string, HTMLElement>} */
    this.panels = Object.fromEntries(
      ["error", "results", "times", "findings", "program", "raw"].map((name) => [
        name,
        h("div", { class: `panel-${name}` }),
      ]),
    );
    this.panels.legend = h("div", { class: "chips panel-legend", role: "group", "aria-label": "Labels" });
    /** @type {Record<string, HTMLElement>} */
    this.cards = {};
    /** @type {Record<string, (() => Child) | null>} */
    this.renderers = {};
    this.toolbar = h("div", { class: "chips", role: "group", "aria-label": "Tools" });
    this.strip = h("div", { class: "strip", hidden: true });
    this.readout = h("p", { class: "readout" });
    this.status = h("p", { class: "status", role: "status" });
    this.total = h("span", { class: "count" });
    this.runButton = button("Run", () => playground.run(), { class: "primary" });
    this.saveButton = button("Save picture", () => playground.save(), { class: "small" });
    const previous = { "aria-label": "Previous picture (,)", title: "Previous picture (,)" };
    this.previousButton = button("◀", () => playground.showFrame(playground.index - 1), previous);
    const next = { "aria-label": "Next picture (.)", title: "Next picture (.)" };
    this.nextButton = button("▶", () => playground.nextFrame(), next);
    this.playButton = button("", () => playground.play(), {
      hidden: playground.kind === "reid" || playground.kind === "interactor",
    });
    this.position = h("span", { class: "count" });
    const slider = h("input", { type: "range", min: 1, "aria-label": "Picture" });
    slider.addEventListener("input", () => playground.showFrame(Number(slider.value) - 1));
    this.slider = slider;
    this.emptyElement = this.emptyState();
    this.stageArea = h("div", { class: "stage empty" }, this.canvas, this.emptyElement, this.zoomButtons());
    this.element = h("div", { class: "playground" }, this.pictureColumn(), this.resultsColumn());
    this.inputEvents = listen(playground, this);
  }

  close() {
    this.inputEvents.abort();
  }

  pictureColumn() {
    return h(
      "section",
      { class: "card stage-card", "aria-label": "Picture" },
      h("div", { class: "stage-bar" }, this.sourceButtons(), this.toolbar),
      this.stageArea,
      this.strip,
      this.readout,
      h("p", { class: "key-help muted", id: "playground-keys" }, keysOf(this.playground.kind)),
    );
  }

  sourceButtons() {
    const { playground } = this;
    /** @param {Attributes} attributes */
    const fileInput = (attributes) => {
      const input = h("input", { type: "file", hidden: true, multiple: true, ...attributes });
      input.addEventListener("change", () => {
        playground.openFiles([...(input.files ?? [])]);
        input.value = "";
      });
      return input;
    };
    const isTracker = playground.kind === "tracker";
    const files = fileInput({ accept: isTracker ? "image/*,video/*" : "image/*", class: "files" });
    const folder = fileInput({ webkitdirectory: true, class: "folder" });
    const samples = h(
      "select",
      { "aria-label": "Samples" },
      h("option", { value: "" }, "Samples"),
      this.samples().map(([name], index) => h("option", { value: index }, name)),
    );
    samples.addEventListener("change", () => this.openSample(samples));
    return h(
      "div",
      { class: "chips" },
      button(isTracker ? "Video or pictures" : "Pictures", () => files.click()),
      button("Folder", () => folder.click(), { class: "quiet" }),
      samples,
      files,
      folder,
    );
  }

  samples() {
    return SAMPLES[this.playground.kind];
  }

  /** @param {HTMLSelectElement} select */
  openSample(select) {
    const sample = this.samples()[Number(select.value)];
    if (select.value && sample) this.playground.openSource(sample[1]);
    select.value = "";
  }

  emptyState() {
    const { kind } = this.playground;
    const subject =
      kind === "tracker"
        ? "a video, or consecutive pictures,"
        : kind === "reid"
          ? "two pictures"
          : "a picture";
    return h(
      "div",
      { class: "welcome" },
      h("p", { class: "welcome-title" }, `Drop ${subject} here`),
      h("p", { class: "muted" }, "or paste one, choose files above, or start with a sample:"),
      h(
        "div",
        { class: "chips" },
        this.samples().map(([name, load]) =>
          button(name, () => this.playground.openSource(load), { class: "chip" }),
        ),
      ),
    );
  }

  zoomButtons() {
    const { playground } = this;
    /** @param {string} name */
    const attributes = (name) => ({ class: "small quiet", "aria-label": name, title: name });
    return h(
      "div",
      { class: "zoom-buttons" },
      button("−", () => playground.stage.zoom(0.8), attributes("Smaller")),
      button("Fit", () => playground.stage.fit(), attributes("The whole picture")),
      button("+", () => playground.stage.zoom(1.25), attributes("Larger")),
    );
  }

  resultsColumn() {
    const { playground, panels } = this;
    const slider = h("input", { type: "range", min: 0, max: 1, step: 0.01, value: 0, id: "threshold" });
    const thresholdText = h("output", { for: "threshold" }, "default");
    slider.addEventListener("input", () => {
      const value = Number(slider.value);
      playground.setThreshold(value);
      thresholdText.textContent = value ? value.toFixed(2) : "default";
    });
    /**
     * @param {string} name
     * @param {string} title
     */
    const card = (name, title) => {
      this.cards[name] = h("section", { class: "card", hidden: true }, h("h2", {}, title), panels[name]);
      return this.cards[name];
    };
    /**
     * @param {string} name
     * @param {string} title
     */
    const foldedCard = (name, title) => {
      const attributes = { class: "card", hidden: true, ontoggle: () => this.drawFoldedPanel(name) };
      this.cards[name] = h("details", attributes, h("summary", {}, title), panels[name]);
      return this.cards[name];
    };
    return h(
      "div",
      { class: "side" },
      h(
        "section",
        { class: "card", "aria-label": "Results" },
        h(
          "div",
          { class: "head" },
          h("h2", {}, "Results ", this.total),
          h("div", { class: "tools" }, this.saveButton, this.runButton),
        ),
        panels.error,
        this.status,
        playground.kind !== "tracker" &&
          h(
            "div",
            { class: "threshold" },
            h("label", { for: "threshold" }, "Threshold"),
            thresholdText,
            slider,
          ),
        panels.legend,
        panels.results,
      ),
      card("times", "Time"),
      card("findings", "CVAT"),
      foldedCard("program", "Request as code"),
      foldedCard("raw", "Raw reply"),
    );
  }

  // Tools

  availableTools() {
    const { kind, annotations, tracks } = this.playground;
    const names = kind === "detector" ? ["move"] : kind === "reid" ? ["box", "move"] : [];
    if (kind === "interactor") {
      const box = annotations.startswith_box || annotations.startswith_box_optional;
      if (annotations.startswith_box) names.push("box");
      names.push("positive");
      if (Number(annotations.min_neg_points ?? -1) >= 0) names.push("negative");
      if (box && !annotations.startswith_box) names.push("box");
      names.push("move");
    }
    if (kind === "tracker") {
      const { types } = tracks;
      if (!types.length || types.includes("rectangle") || types.includes("polygon")) names.push("box");
      if (types.includes("polygon")) names.push("polygon");
      if (types.includes("points")) names.push("points");
      names.push("move");
    }
    return names.map((name) => TOOLS[name]);
  }

  /** @param {string} tool */
  hasTool(tool) {
    return this.availableTools().some((candidate) => candidate.tool === tool);
  }

  drawTools() {
    const { playground } = this;
    const { prompt, source } = playground;
    const hasPrompts = prompt.hasAny || playground.tracks.shapesAt(playground.index).length > 0;
    const focused = this.toolbar.contains(document.activeElement) && document.activeElement?.textContent;
    const toolButtons = this.availableTools().map(({ tool, name, title, key }) =>
      button(name, () => playground.useTool(tool), {
        title: `${title} (${key})`,
        "aria-pressed": String(tool === playground.tool),
      }),
    );
    const attributes = { class: "quiet", disabled: !hasPrompts };
    const buttons = [
      ...toolButtons,
      button("Undo", () => playground.undo(), attributes),
      button("Clear", () => playground.clear(), attributes),
    ];
    setChildren(this.toolbar, toolButtons.length > 1 && buttons);
    if (focused) buttons.find((candidate) => candidate.textContent === focused)?.focus();
    this.runButton.disabled = Boolean(playground.missingInput()) || playground.kind === "tracker";
    this.runButton.hidden = playground.kind === "tracker";
    this.saveButton.disabled = !source;
  }

  // The strip of pictures

  onSourceOpened() {
    this.stageArea.classList.remove("empty");
    this.emptyElement.remove();
    this.createStrip();
    this.drawStrip();
    this.canvas.focus({ preventScroll: true });
  }

  drawStrip() {
    const { source, index, playing, kind } = this.playground;
    this.strip.hidden = !source || (source.count < 2 && !source.video);
    if (!source || this.strip.hidden) return;
    const isLast = index + 1 >= source.count;
    this.slider.max = String(source.count);
    this.slider.value = String(index + 1);
    this.previousButton.disabled = index === 0;
    this.nextButton.disabled = isLast;
    this.playButton.disabled = isLast && !playing;
    this.playButton.textContent = playing ? "Pause" : kind === "detector" ? "Run all" : "Play";
    this.position.textContent = `${index + 1} / ${source.count}`;
    this.position.title = source.name(index);
  }

  createStrip() {
    const { playground } = this;
    const { source } = playground;
    const rate = h("input", { type: "number", min: 1, max: 120, value: source?.rate });
    rate.addEventListener("change", () => {
      if (!source) return;
      source.setRate(Math.min(Math.max(Number(rate.value) || 25, 1), 120));
      playground.openSource(() => source);
    });
    const { previousButton, nextButton, playButton, slider, position } = this;
    const rateField = source?.video && h("label", { class: "inline" }, rate, "frames per second");
    setChildren(this.strip, previousButton, nextButton, playButton, slider, position, rateField);
  }

  // Status and panels

  /** @param {string} text */
  setStatus(text) {
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  /** @param {boolean} isBusy */
  setBusy(isBusy) {
    this.stageArea.classList.toggle("busy", isBusy);
    this.element.setAttribute("aria-busy", String(isBusy));
    if (isBusy) this.setStatus("Running…");
  }

  /**
   * @param {number} visibleCount
   * @param {number} excludedCount the number of shapes below the threshold
   */
  setCount(visibleCount, excludedCount) {
    const excluded = excludedCount ? `, ${excludedCount} below the threshold` : "";
    this.total.textContent = visibleCount || excludedCount ? `${visibleCount}${excluded}` : "";
  }

  /**
   * @param {string} name
   * @param {Child} content
   */
  showPanel(name, content) {
    this.cards[name].hidden = !content;
    setChildren(this.panels[name], content || []);
  }

  /**
   * Set the content of a folded card, which is rendered once it is open; null hides the card.
   *
   * @param {string} name
   * @param {(() => Child) | null} render
   */
  setFoldedPanel(name, render) {
    this.cards[name].hidden = !render;
    this.renderers[name] = render;
    this.drawFoldedPanel(name);
  }

  /** @param {string} name */
  drawFoldedPanel(name) {
    const render = this.renderers[name];
    const isOpen = this.cards[name].hasAttribute("open");
    setChildren(this.panels[name], isOpen && render?.());
  }

  /** @param {{x: number, y: number} | null} point */
  showPosition(point) {
    const { picture } = this.playground;
    const size = picture ? `${picture.name}, ${picture.width} × ${picture.height}` : "";
    const position = point ? ` · x ${Math.floor(point.x)}, y ${Math.floor(point.y)}` : "";
    this.readout.textContent = `${size}${position}${ignoredFilesText(this.playground.source)}`;
  }

  /**
   * Return the area in which a shape can be clicked.
   *
   * @param {Shape} shape
   */
  clickArea(shape) {
    const box = bounds(shape);
    if (!box || shape.type !== "points") return box;
    const margin = 8 / this.playground.stage.scale;
    return [box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin];
  }
}
