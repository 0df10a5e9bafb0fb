// The playground's frame: where pictures come from, tools, the strip of frames, places for panels.

import { fill, h } from "./dom.js";
import { hear } from "./hearing.js";
import { leftOut, SAMPLES } from "./pictures.js";
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
    this.element = h("div", { class: "playground" }, this.left(), this.right());
    this.hearing = hear(playground, this);
  }

  close() {
    this.hearing.abort();
  }

  left() {
    this.empty = this.welcome();
    this.area = h("div", { class: "stage empty" }, this.canvas, this.empty, this.zooms());
    return h(
      "section",
      { class: "card stage-card", "aria-label": "Picture" },
      h("div", { class: "stage-bar" }, this.sources(), this.toolbar),
      this.area,
      this.strip,
      this.readout,
      h("p", { class: "keys-line quiet-text", id: "playground-keys" }, keysOf(this.playground.kind)),
    );
  }

  sources() {
    const pick = (attributes) => {
      const input = h("input", {
        type: "file",
        hidden: true,
        multiple: true,
        ...attributes,
        onchange: () => {
          this.playground.open([...input.files]);
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
      { "aria-label": "Samples", onchange: () => this.sample(samples) },
      h("option", { value: "" }, "Samples"),
      this.samples().map(([name], i) => h("option", { value: i }, name)),
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

  sample(select) {
    const chosen = this.samples()[select.value];
    select.value = "";
    if (chosen) this.playground.take(async () => chosen[1]());
  }

  welcome() {
    const what =
      { tracker: "a video, or pictures in a row,", reid: "two pictures" }[this.playground.kind] ??
      "a picture";
    return h(
      "div",
      { class: "welcome" },
      h("p", { class: "welcome-what" }, `Drop ${what} here`),
      h("p", { class: "quiet-text" }, "or paste one, choose files above, or begin with a sample:"),
      h(
        "div",
        { class: "chips" },
        this.samples().map(([name, load]) =>
          h(
            "button",
            { type: "button", class: "chip", onclick: () => this.playground.take(async () => load()) },
            name,
          ),
        ),
      ),
    );
  }

  zooms() {
    const button = (text, name, act) =>
      h(
        "button",
        { type: "button", class: "small quiet", "aria-label": name, title: name, onclick: act },
        text,
      );
    return h(
      "div",
      { class: "zooms" },
      button("−", "Smaller", () => this.playground.stage.zoom(0.8)),
      button("Fit", "The whole picture", () => this.playground.stage.fit()),
      button("+", "Larger", () => this.playground.stage.zoom(1.25)),
    );
  }

  right() {
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
        said.textContent = slider.value === "0" ? "the function's own" : Number(slider.value).toFixed(2);
      },
    });
    const said = h("output", { for: "threshold" }, "the function's own");
    const card = (name, title, ...children) =>
      (this.cards[name] = h("section", { class: "card", hidden: true }, h("h2", {}, title), ...children));
    const folded = (name, title) =>
      (this.cards[name] = h(
        "details",
        { class: "card", hidden: true, ontoggle: () => this.unfold(name) },
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
          h("div", { class: "threshold" }, h("label", { for: "threshold" }, "Threshold"), said, slider),
        panels.legend,
        panels.results,
      ),
      card("times", "Time", panels.times),
      card("verdict", "CVAT", panels.verdict),
      folded("program", "The request as a program"),
      folded("raw", "The reply"),
    );
  }

  // Tools

  tools() {
    const { kind, annotations: said, tracks } = this.playground;
    const names = { detector: ["move"], reid: ["box", "move"] }[kind] ?? [];
    if (kind === "interactor") {
      const box = said.startswith_box || said.startswith_box_optional;
      if (said.startswith_box) names.push("box");
      names.push("positive");
      if (Number(said.min_neg_points ?? -1) >= 0) names.push("negative");
      if (box && !said.startswith_box) names.push("box");
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

  has(tool) {
    return this.tools().some((one) => one.tool === tool);
  }

  drawTools() {
    const { playground } = this;
    const { prompt, source } = playground;
    const some = prompt.some || playground.tracks.at(playground.index).length > 0;
    const many = this.tools().length > 1;
    const focused = this.toolbar.contains(document.activeElement) && document.activeElement.textContent;
    fill(
      this.toolbar,
      many &&
        this.tools().map(({ tool, name, title, key }) =>
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
      many &&
        h(
          "button",
          { type: "button", class: "quiet", disabled: !some, onclick: () => playground.undo() },
          "Undo",
        ),
      many &&
        h(
          "button",
          { type: "button", class: "quiet", disabled: !some, onclick: () => playground.clear() },
          "Clear",
        ),
    );
    if (focused) [...this.toolbar.children].find((one) => one.textContent === focused)?.focus();
    this.runButton.disabled = Boolean(playground.lacking()) || playground.kind === "tracker";
    this.runButton.hidden = playground.kind === "tracker";
    this.saveButton.disabled = !source;
  }

  // The strip of pictures

  opened() {
    this.area.classList.remove("empty");
    this.empty.remove();
    this.drawStrip(true);
    this.canvas.focus({ preventScroll: true });
  }

  drawStrip(anew = false) {
    const { playground } = this;
    const { source, index, playing } = playground;
    if (!source || (source.count < 2 && !source.video)) {
      this.strip.hidden = true;
      this.slider = null;
      return;
    }
    if (anew || !this.slider) this.makeStrip();
    this.slider.max = source.count;
    this.slider.value = index + 1;
    this.back.disabled = index === 0;
    this.on.disabled = index + 1 >= source.count;
    this.play.disabled = this.on.disabled && !playing;
    this.play.textContent = playing ? "Pause" : playground.kind === "detector" ? "Ask about all" : "Play";
    this.where.textContent = `${index + 1} / ${source.count}`;
    this.where.title = source.name(index);
  }

  makeStrip() {
    const { playground } = this;
    const { source } = playground;
    const button = (text, name, act) =>
      h("button", { type: "button", "aria-label": name, title: name, onclick: act }, text);
    this.back = button("◀", "Previous picture (,)", () => playground.go(playground.index - 1));
    this.on = button("▶", "Next picture (.)", () => playground.forward());
    this.play = h("button", {
      type: "button",
      onclick: () => playground.play(),
      hidden: playground.kind === "reid" || playground.kind === "interactor",
    });
    this.where = h("span", { class: "count" });
    this.slider = h("input", {
      type: "range",
      min: 1,
      "aria-label": "Picture",
      oninput: () => playground.go(Number(this.slider.value) - 1),
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
            playground.take(async () => source);
          },
        }),
        "frames a second",
      );
    this.strip.hidden = false;
    fill(this.strip, this.back, this.on, this.play, this.slider, this.where, rate);
  }

  // Saying

  say(text) {
    if (this.status.textContent !== text) this.status.textContent = text;
  }

  busy(is) {
    this.area.classList.toggle("busy", is);
    this.element.setAttribute("aria-busy", String(is));
    if (is) this.say("Asking…");
  }

  count(shown, below) {
    this.total.textContent = shown || below ? `${shown}${below ? `, ${below} below the threshold` : ""}` : "";
  }

  reveal(name, content) {
    this.cards[name].hidden = !content;
    fill(this.panels[name], content || []);
  }

  /** A folded card, which is written when it is looked at: `make` gives its content, null hides it. */
  fold(name, make) {
    this.cards[name].hidden = !make;
    this.cards[name].make = make;
    this.unfold(name);
  }

  unfold(name) {
    const { open, make } = this.cards[name];
    fill(this.panels[name], open && make ? make() : []);
  }

  place(at) {
    const { picture } = this.playground;
    const size = picture ? `${picture.name}, ${picture.width} × ${picture.height}` : "";
    const position = at ? ` · x ${Math.floor(at.x)}, y ${Math.floor(at.y)}` : "";
    this.readout.textContent = `${size}${position}${leftOut(this.playground.source)}`;
  }

  /** Where a shape can be clicked. */
  reach(shape) {
    const around = bounds(shape);
    if (!around || shape.type !== "points") return around;
    const more = 8 / this.playground.stage.scale;
    return [around[0] - more, around[1] - more, around[2] + more, around[3] + more];
  }
}
