// What the playground asks a function about, and what it was answered: without the page around it.
//
// What a person gave and what was replied is kept for each picture of the source. The page is told
// by `present(picture)`, `opened()`, `busy(is)`, `fail(error)`, `say(text)` and `drawPanels()`, which
// whoever extends this class has.

import { ask, complaint, findings, payload } from "./asking.js";
import { fromFiles } from "./pictures.js";
import { Prompts, interactorLacks } from "./prompts.js";
import { shapesOf } from "./shapes.js";
import { Tracks } from "./tracking.js";

export class Questions {
  constructor(name, kind, annotations, signal) {
    Object.assign(this, { name, kind, annotations, signal });
    const types = (annotations.supported_shape_types ?? "").split(",").map((one) => one.trim());
    this.tracks = new Tracks(types.filter(Boolean));
    this.threshold = 0;
    [this.turn, this.out] = [0, 0];
    this.forget();
  }

  // Pictures

  forget() {
    this.playing = false;
    // Answers to questions about other pictures come too late from now on.
    this.turn += 1;
    this.index = 0;
    this.results = new Map();
    this.prompts = new Map();
    this.tracks.clear();
  }

  get prompt() {
    if (!this.prompts.has(this.index)) this.prompts.set(this.index, new Prompts());
    return this.prompts.get(this.index);
  }

  get result() {
    return this.results.get(this.index) ?? null;
  }

  /** The number of the other picture in re-identification, and which of the two this is. */
  get pair() {
    const first = Math.min(this.index, Math.max(0, this.source.count - 2));
    return { first, second: first + 1, isSecond: this.index > first };
  }

  async open(files) {
    await this.take(() => fromFiles(files));
  }

  /** Show what `load` gives instead of the pictures that were there. */
  async take(load) {
    this.say("Loading…");
    try {
      const source = await load();
      const picture = await source.picture(0);
      if (this.signal.aborted) return source.close();
      if (source !== this.source) this.source?.close();
      this.source = source;
      this.forget();
      this.present(picture);
      this.opened();
      if (this.kind === "detector") await this.run();
    } catch (error) {
      this.fail(error);
    }
    return undefined;
  }

  /** Show another picture of the source; a detector looks at it when it has not yet. */
  async go(index) {
    if (!this.source || index < 0 || index >= this.source.count) return;
    this.wanted = index;
    try {
      const picture = await this.source.picture(index);
      if (this.wanted !== index || this.signal.aborted) return;
      this.index = index;
      this.present(picture);
    } catch (error) {
      this.fail(error);
      return;
    }
    if (this.kind === "detector" && !this.result) await this.run();
  }

  /** One picture on; a tracker follows its shapes there. */
  async forward() {
    const from = this.index;
    if (this.stepping || from + 1 >= this.source.count) return false;
    this.stepping = true;
    try {
      return await this.forwardFrom(from);
    } finally {
      this.stepping = false;
    }
  }

  async forwardFrom(from) {
    const follow = this.kind === "tracker" && this.tracks.at(from).length > 0 && !this.tracks.has(from + 1);
    await this.go(from + 1);
    if (!follow) return true;
    return this.call(this.tracks.following(from), (shapes, reply) =>
      this.tracks.followed(from, from + 1, reply?.states ?? [], shapes),
    );
  }

  /** Go on to the end, or until somebody stops it. */
  async play() {
    this.playing = !this.playing;
    this.drawPanels();
    while (this.playing && !this.signal.aborted) {
      const began = performance.now();
      if (!(await this.forward())) this.playing = false;
      const rest = 1000 / (this.source?.rate ?? 12) - (performance.now() - began);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, rest)));
    }
    this.drawPanels();
  }

  /** Begin to follow a shape from this picture on. */
  track(drawn) {
    const frame = this.index;
    const shape = { label: "", elements: [], attributes: [], rotation: 0, confidence: null, ...drawn };
    return this.call(this.tracks.starting(shape), (shapes, reply) =>
      this.tracks.started(frame, shape, reply?.states ?? [], shapes),
    );
  }

  /** What is still needed before the function can be asked; "" when nothing is. */
  lacking() {
    if (!this.source) return "Choose a picture first.";
    if (this.kind === "interactor") return interactorLacks(this.annotations, this.prompt);
    if (this.kind === "tracker") {
      if (this.tracks.at(this.index).length) return "";
      return "Draw a shape around what is to be followed, then step on.";
    }
    if (this.kind === "reid") {
      if (this.source.count < 2) return "Choose two pictures.";
      const { first, second } = this.pair;
      if (!this.prompts.get(first)?.boxes.length) return "Draw boxes on the first picture.";
      if (!this.prompts.get(second)?.boxes.length) return "Draw boxes on the second picture.";
    }
    return "";
  }

  // Asking

  /** Ask about what is shown. While a question is out, the newest of those that come after waits. */
  run() {
    this.again = true;
    this.pending ??= this.runAll().finally(() => (this.pending = null));
    return this.pending;
  }

  async runAll() {
    while (this.again && !this.signal.aborted && !this.lacking()) {
      this.again = false;
      await this.runOnce();
    }
  }

  async runOnce() {
    const { prompt, kind } = this;
    if (kind !== "reid") {
      await this.call({ pos: [...prompt.pos], neg: [...prompt.neg], box: prompt.box });
      return;
    }
    const { first, second } = this.pair;
    const boxes = [first, second].map((i) => this.prompts.get(i).boxes);
    const [picture, other] = [await this.source.picture(first), await this.source.picture(second)];
    await this.call({ picture, second: other, boxes }, null, [first, second]);
  }

  /** Send a request; whether a reply came that could be read. `keep` gets its shapes and itself. */
  async call(work, keep = null, places = [this.index]) {
    const { picture, kind, turn } = this;
    const entries = payload(kind, { picture, ...work, threshold: this.threshold });
    this.out += 1;
    this.busy(true);
    let result = { entries, shapes: [], unread: 0 };
    try {
      const answer = await ask(this.name, entries, { signal: this.signal });
      result = { ...result, ...answer };
      if (turn !== this.turn) return false;
      if (answer.status < 200 || answer.status > 299) throw complaint(this.name, answer);
      const reply = JSON.parse(answer.text);
      Object.assign(result, shapesOf(kind, reply, picture));
      if (kind === "reid") result.matches = Array.isArray(reply) ? reply : [];
      keep?.(result.shapes, reply);
    } catch (error) {
      if (this.signal.aborted || turn !== this.turn) return false;
      result.error =
        error instanceof SyntaxError ? new Error(`${this.name} did not answer with JSON`) : error;
    } finally {
      this.out -= 1;
      this.busy(this.out > 0);
    }
    for (const place of places) this.results.set(place, result);
    this.drawPanels();
    if (result.text !== undefined && !(result.status > 299)) this.judge(result, picture);
    return !result.error;
  }

  async judge(result, picture) {
    try {
      const spec = this.annotations.spec ?? "";
      result.findings = await findings(this.kind, spec, result.entries, result.text, picture, {
        signal: this.signal,
      });
    } catch (error) {
      result.unjudged = error;
    }
    if (!this.signal.aborted && this.result === result) this.drawPanels();
  }
}
