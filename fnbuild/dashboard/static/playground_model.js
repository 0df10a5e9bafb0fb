// What the playground asks a function about, and what it was answered: without the page around it.
//
// What a person gave and what was replied is kept for each picture of the source. The page is told
// by `present(picture)`, `opened()`, `busy(is)`, `fail(error)`, `say(text)` and `drawPanels()`, which
// whoever extends this class has.

import { invoke, replyError, checkReply, requestEntries } from "./cvat_requests.js";
import { sourceFromFiles } from "./pictures.js";
import { Prompts, missingPrompt } from "./prompts.js";
import { shapesOf } from "./shapes.js";
import { Tracks } from "./tracks.js";

export class PlaygroundModel {
  constructor(name, kind, annotations, signal) {
    Object.assign(this, { name, kind, annotations, signal });
    const types = (annotations.supported_shape_types ?? "").split(",").map((type) => type.trim());
    this.tracks = new Tracks(types.filter(Boolean));
    this.threshold = 0;
    [this.generation, this.requestsInFlight] = [0, 0];
    this.reset();
  }

  // Pictures

  reset() {
    this.playing = false;
    // Answers to questions about other pictures come too late from now on.
    this.generation += 1;
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

  async openFiles(files) {
    await this.openSource(() => sourceFromFiles(files));
  }

  /** Show what `load` gives instead of the pictures that were there. */
  async openSource(load) {
    this.setStatus("Loading…");
    try {
      const source = await load();
      const picture = await source.picture(0);
      if (this.signal.aborted) return source.close();
      if (source !== this.source) this.source?.close();
      this.source = source;
      this.reset();
      this.present(picture);
      this.onSourceOpened();
      if (this.kind === "detector") await this.run();
    } catch (error) {
      this.showError(error);
    }
    return undefined;
  }

  /** Show another picture of the source; a detector looks at it when it has not yet. */
  async showFrame(index) {
    if (!this.source || index < 0 || index >= this.source.count) return;
    this.requestedIndex = index;
    try {
      const picture = await this.source.picture(index);
      if (this.requestedIndex !== index || this.signal.aborted) return;
      this.index = index;
      this.present(picture);
    } catch (error) {
      this.showError(error);
      return;
    }
    if (this.kind === "detector" && !this.result) await this.run();
  }

  /** One picture on; a tracker follows its shapes there. */
  async nextFrame() {
    const from = this.index;
    if (this.stepping || from + 1 >= this.source.count) return false;
    this.stepping = true;
    try {
      return await this.nextFrameFrom(from);
    } finally {
      this.stepping = false;
    }
  }

  async nextFrameFrom(from) {
    const tracksShapes =
      this.kind === "tracker" && this.tracks.shapesAt(from).length > 0 && !this.tracks.has(from + 1);
    await this.showFrame(from + 1);
    if (!tracksShapes) return true;
    return this.send(this.tracks.followRequest(from), (shapes, reply) =>
      this.tracks.setFollowed(from, from + 1, reply?.states ?? [], shapes),
    );
  }

  /** Go on to the end, or until somebody stops it. */
  async play() {
    this.playing = !this.playing;
    this.drawPanels();
    while (this.playing && !this.signal.aborted) {
      const start = performance.now();
      if (!(await this.nextFrame())) this.playing = false;
      const delay = 1000 / (this.source?.rate ?? 12) - (performance.now() - start);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, delay)));
    }
    this.drawPanels();
  }

  /** Begin to follow a shape from this picture on. */
  track(drawn) {
    const frame = this.index;
    const shape = { label: "", elements: [], attributes: [], rotation: 0, confidence: null, ...drawn };
    return this.send(this.tracks.startRequest(shape), (shapes, reply) =>
      this.tracks.addTrack(frame, shape, reply?.states ?? [], shapes),
    );
  }

  /** What is still needed before the function can be asked; "" when nothing is. */
  missingInput() {
    if (!this.source) return "Choose a picture first.";
    if (this.kind === "interactor") return missingPrompt(this.annotations, this.prompt);
    if (this.kind === "tracker") {
      if (this.tracks.shapesAt(this.index).length) return "";
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
    this.runRequested = true;
    this.pending ??= this.runAll().finally(() => (this.pending = null));
    return this.pending;
  }

  async runAll() {
    while (this.runRequested && !this.signal.aborted && !this.missingInput()) {
      this.runRequested = false;
      await this.runOnce();
    }
  }

  async runOnce() {
    const { prompt, kind } = this;
    if (kind !== "reid") {
      await this.send({ pos: [...prompt.pos], neg: [...prompt.neg], box: prompt.box });
      return;
    }
    const { first, second } = this.pair;
    const framesBoxes = [first, second].map((i) => this.prompts.get(i).boxes);
    const [picture, other] = [await this.source.picture(first), await this.source.picture(second)];
    await this.send({ picture, second: other, boxes: framesBoxes }, null, [first, second]);
  }

  /** Send a request; whether a reply came that could be read. `keep` gets its shapes and itself. */
  async send(input, onShapes = null, frames = [this.index]) {
    const { picture, kind, generation } = this;
    const entries = requestEntries(kind, { picture, ...input, threshold: this.threshold });
    this.requestsInFlight += 1;
    this.setBusy(true);
    let result = { entries, shapes: [], skipped: 0 };
    try {
      const answer = await invoke(this.name, entries, { signal: this.signal });
      result = { ...result, ...answer };
      if (generation !== this.generation) return false;
      if (answer.status < 200 || answer.status > 299) throw replyError(this.name, answer);
      const reply = JSON.parse(answer.text);
      Object.assign(result, shapesOf(kind, reply, picture));
      if (kind === "reid") result.matches = Array.isArray(reply) ? reply : [];
      onShapes?.(result.shapes, reply);
    } catch (error) {
      if (this.signal.aborted || generation !== this.generation) return false;
      result.error =
        error instanceof SyntaxError ? new Error(`${this.name} did not answer with JSON`) : error;
    } finally {
      this.requestsInFlight -= 1;
      this.setBusy(this.requestsInFlight > 0);
    }
    for (const frame of frames) this.results.set(frame, result);
    this.drawPanels();
    if (result.text !== undefined && !(result.status > 299)) this.checkReply(result, picture);
    return !result.error;
  }

  async checkReply(result, picture) {
    try {
      const spec = this.annotations.spec ?? "";
      result.findings = await checkReply(this.kind, spec, result.entries, result.text, picture, {
        signal: this.signal,
      });
    } catch (error) {
      result.unjudged = error;
    }
    if (!this.signal.aborted && this.result === result) this.drawPanels();
  }
}
