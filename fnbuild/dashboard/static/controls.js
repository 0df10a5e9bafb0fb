// The playground's frame: where pictures come from, tools, the strip of frames, places for panels.

import { setChildren, h } from "./dom.js";
import { listen } from "./input_events.js";
import { leftOutText, SAMPLES } from "./pictures.js";
import { bounds } from "./shapes.js";

const TOOLS = {
  move: { tool: "move", name: "Move", key: "m", title: "Move the picture" },
  positive: { tool: "positive", name: "+ On it", key: "a", title: "Points on the object" },
  negative: {
    tool: "negative",
    name: "− Beside it",
    key: "x",
    title: "Points beside the object; the right button does the same",
  },
  box: { tool: "box", name: "Box", key: "b", title: "Draw a box" },
  polygon: {
    tool: "polygon",
    name: "Polygon",
    key: "l",
    title: "Click the corners; Enter or the first corner closes it",
  },
  points: { tool: "points", name: "Point", key: "a", title: "Follow a point" },
};

function keysOf(kind) {
  const beside = kind === "interactor" ? " (Shift+Enter beside the object)" : "";
  const undo = kind === "detector" ? "" : ", Backspace takes the last one back";
  return (
    `Keys in the picture: arrows move a cross, Enter clicks there${beside}, + − 0 zoom${undo}; ` +
    ", and . go to the picture before and after, p plays."
  );
}

export class Controls {
  constructor(playground) {
    this.playground = playground;
    this.canvas = h("canvas", {
      class: "picture",
      tabindex: 0,
      role: "img",
      "aria-label": "The picture, with what the function found drawn over it",
      "aria-describedby": "playground-keys",
    });
    this.panels = Object.fromEntries(
      ["trouble", "results", "times", "verdict", "program", "raw"].map((name) => [
        name,
        h("div", { class: `panel-${name}` }),
      ]),
    );
    this.panels.legend = h("div", { class: "chips panel-legend", role: "group", "aria-label": "Labels" });
    this.cards = {};
    this.toolbar = h("div", { class: "chips", role: "group", "aria-label": "Tools" });
    this.strip = h("div", { class: "strip", hidden: true });
    this.readout = h("p", { class: "readout" });
    this.status = h("p", { class: "status", role: "status" });
    this.total = h("span", { class: "count" });
    this.runButton = h(
      "button",
      { type: "button", class: "primary", onclick: () => playground.run() },
      "Ask",
    );
    this.saveButton = h(
      "button",
      { type: "button", class: "small", onclick: () => playground.save() },
      "Save the picture",
    );
    this.element = h("div", { class: "playground" }, this.pictureColumn(), this.resultsColumn());
    this.inputEvents = listen(playground, this);
  }

  close() {
    this.inputEvents.abort();
  }

  pictureColumn() {
    this.emptyElement = this.emptyState();
    this.stageArea = h("div", { class: "stage empty" }, this.canvas, this.emptyElement, this.zoomButtons());
    return h(
      "section",
      { class: "card stage-card", "aria-label": "Picture" },
      h("div", { class: "stage-bar" }, this.sourceButtons(), this.toolbar),
      this.stageArea,
      this.strip,
      this.readout,
      h("p", { class: "keys-line quiet-text", id: "playground-keys" }, keysOf(this.playground.kind)),
    );
  }

  sourceButtons() {
    const pick = (attributes) => {
      const input = h("input", {
        type: "file",
        hidden: true,
        multiple: true,
        ...attributes,
        onchange: () => {
          this.playground.openFiles([...input.files]);
          input.value = "";
        },
      });
      return input;
    };
    const accept = this.playground.kind === "tracker" ? "image/*,video/*" : "image/*";
    const files = pick({ accept, class: "files" });
    const folder = pick({ webkitdirectory: true, class: "folder" });
    const samples = h(
      "select",
      { "aria-label": "Samples", onchange: () => this.openSample(samples) },
      h("option", { value: "" }, "Samples"),
      this.samples().map(([name], index) => h("option", { value: index }, name)),
    );
    return h(
      "div",
      { class: "chips" },
      h(
        "button",
        { type: "button", onclick: () => files.click() },
        this.playground.kind === "tracker" ? "Video or pictures" : "Pictures",
      ),
      h("button", { type: "button", class: "quiet", onclick: () => folder.click() }, "Folder"),
      samples,
      files,
      folder,
    );
  }

  samples() {
    return SAMPLES[this.playground.kind];
  }

  openSample(select) {
    const chosen = this.samples()[select.value];
    select.value = "";
    if (chosen) this.playground.openSource(async () => chosen[1]());
  }

  emptyState() {
    const subject =
      { tracker: "a video, or pictures in a row,", reid: "two pictures" }[this.playground.kind] ??
      "a picture";
    return h(
      "div",
      { class: "welcome" },
      h("p", { class: "welcome-what" }, `Drop ${subject} here`),
      h("p", { class: "quiet-text" }, "or paste one, choose files above, or begin with a sample:"),
      h(
        "div",
        { class: "chips" },
        this.samples().map(([name, load]) =>
          h(
            "button",
            { type: "button", class: "chip", onclick: () => this.playground.openSource(async () => load()) },
            name,
          ),
        ),
      ),
    );
  }

  zoomButtons() {
    const button = (text, name, onclick) =>
      h("button", { type: "button", class: "small quiet", "aria-label": name, title: name, onclick }, text);
    return h(
      "div",
      { class: "zooms" },
      button("−", "Smaller", () => this.playground.stage.zoom(0.8)),
      button("Fit", "The whole picture", () => this.playground.stage.fit()),
      button("+", "Larger", () => this.playground.stage.zoom(1.25)),
    );
  }

  resultsColumn() {
    const { playground, panels } = this;
    const slider = h("input", {
      type: "range",
      min: 0,
      max: 1,
      step: 0.01,
      value: 0,
      id: "threshold",
      oninput: () => {
        playground.setThreshold(Number(slider.value));
        thresholdText.textContent =
          slider.value === "0" ? "the function's own" : Number(slider.value).toFixed(2);
      },
    });
    const thresholdText = h("output", { for: "threshold" }, "the function's own");
    const card = (name, title, ...children) =>
      (this.cards[name] = h("section", { class: "card", hidden: true }, h("h2", {}, title), ...children));
    const foldedCard = (name, title) =>
      (this.cards[name] = h(
        "details",
        { class: "card", hidden: true, ontoggle: () => this.drawFoldedPanel(name) },
        h("summary", {}, title),
        panels[name],
      ));
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
        panels.trouble,
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
      card("times", "Time", panels.times),
      card("verdict", "CVAT", panels.verdict),
      foldedCard("program", "The request as a program"),
      foldedCard("raw", "The reply"),
    );
  }

  // Tools

  availableTools() {
    const { kind, annotations, tracks } = this.playground;
    const names = { detector: ["move"], reid: ["box", "move"] }[kind] ?? [];
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

  hasTool(tool) {
    return this.availableTools().some((button) => button.tool === tool);
  }

  drawTools() {
    const { playground } = this;
    const { prompt, source } = playground;
    const hasPrompts = prompt.hasAny || playground.tracks.shapesAt(playground.index).length > 0;
    const hasChoice = this.availableTools().length > 1;
    const focused = this.toolbar.contains(document.activeElement) && document.activeElement.textContent;
    setChildren(
      this.toolbar,
      hasChoice &&
        this.availableTools().map(({ tool, name, title, key }) =>
          h(
            "button",
            {
              type: "button",
              title: `${title} (${key})`,
              "aria-pressed": String(tool === playground.tool),
              onclick: () => playground.useTool(tool),
            },
            name,
          ),
        ),
      hasChoice &&
        h(
          "button",
          { type: "button", class: "quiet", disabled: !hasPrompts, onclick: () => playground.undo() },
          "Undo",
        ),
      hasChoice &&
        h(
          "button",
          { type: "button", class: "quiet", disabled: !hasPrompts, onclick: () => playground.clear() },
          "Clear",
        ),
    );
    if (focused) [...this.toolbar.children].find((button) => button.textContent === focused)?.focus();
    this.runButton.disabled = Boolean(playground.missingInput()) || playground.kind === "tracker";
    this.runButton.hidden = playground.kind === "tracker";
    this.saveButton.disabled = !source;
  }

  // The strip of pictures

  onSourceOpened() {
    this.stageArea.classList.remove("empty");
    this.emptyElement.remove();
    this.drawStrip(true);
    this.canvas.focus({ preventScroll: true });
  }

  drawStrip(rebuild = false) {
    const { playground } = this;
    const { source, index, playing } = playground;
    if (!source || (source.count < 2 && !source.video)) {
      this.strip.hidden = true;
      this.slider = null;
      return;
    }
    if (rebuild || !this.slider) this.createStrip();
    this.slider.max = source.count;
    this.slider.value = index + 1;
    this.previousButton.disabled = index === 0;
    this.on.disabled = index + 1 >= source.count;
    this.playButton.disabled = this.on.disabled && !playing;
    this.playButton.textContent = playing
      ? "Pause"
      : playground.kind === "detector"
        ? "Ask about all"
        : "Play";
    this.position.textContent = `${index + 1} / ${source.count}`;
    this.position.title = source.name(index);
  }

  createStrip() {
    const { playground } = this;
    const { source } = playground;
    const button = (text, name, onclick) =>
      h("button", { type: "button", "aria-label": name, title: name, onclick }, text);
    this.previousButton = button("◀", "Previous picture (,)", () =>
      playground.showFrame(playground.index - 1),
    );
    this.on = button("▶", "Next picture (.)", () => playground.nextFrame());
    this.playButton = h("button", {
      type: "button",
      onclick: () => playground.play(),
      hidden: playground.kind === "reid" || playground.kind === "interactor",
    });
    this.position = h("span", { class: "count" });
    this.slider = h("input", {
      type: "range",
      min: 1,
      "aria-label": "Picture",
      oninput: () => playground.showFrame(Number(this.slider.value) - 1),
    });
    const rate =
      source.video &&
      h(
        "label",
        { class: "inline" },
        h("input", {
          type: "number",
          min: 1,
          max: 120,
          value: source.rate,
          onchange: ({ target }) => {
            source.setRate(Math.min(Math.max(Number(target.value) || 25, 1), 120));
            playground.openSource(async () => source);
          },
        }),
        "frames a second",
      );
    this.strip.hidden = false;
    setChildren(this.strip, this.previousButton, this.on, this.playButton, this.slider, this.position, rate);
  }

  // Saying

  setStatus(text) {
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  setBusy(isBusy) {
    this.stageArea.classList.toggle("busy", isBusy);
    this.element.setAttribute("aria-busy", String(isBusy));
    if (isBusy) this.setStatus("Asking…");
  }

  setCount(shown, below) {
    this.total.textContent = shown || below ? `${shown}${below ? `, ${below} below the threshold` : ""}` : "";
  }

  showPanel(name, content) {
    this.cards[name].hidden = !content;
    setChildren(this.panels[name], content || []);
  }

  /** A folded card, which is written when it is looked at: `make` gives its content, null hides it. */
  setFoldedPanel(name, render) {
    this.cards[name].hidden = !render;
    this.cards[name].make = render;
    this.drawFoldedPanel(name);
  }

  drawFoldedPanel(name) {
    const { open, make: render } = this.cards[name];
    setChildren(this.panels[name], open && render ? render() : []);
  }

  showPosition(point) {
    const { picture } = this.playground;
    const size = picture ? `${picture.name}, ${picture.width} × ${picture.height}` : "";
    const position = point ? ` · x ${Math.floor(point.x)}, y ${Math.floor(point.y)}` : "";
    this.readout.textContent = `${size}${position}${leftOutText(this.playground.source)}`;
  }

  /** Where a shape can be clicked. */
  clickArea(shape) {
    const box = bounds(shape);
    if (!box || shape.type !== "points") return box;
    const margin = 8 / this.playground.stage.scale;
    return [box[0] - margin, box[1] - margin, box[2] + margin, box[3] + margin];
  }
}
