// The state of the playground and its requests, without the page around it.
//
// The user's input and the results are kept for each picture of the source.

import { checkReply, invoke, replyError, requestEntries } from "./cvat_requests.js";
import { sourceFromFiles } from "./pictures.js";
import { missingPrompt, Prompts } from "./prompts.js";
import { EMPTY_SHAPE, shapesOf } from "./shapes.js";
import { Tracks } from "./tracks.js";

export class PlaygroundModel {
  /**
   * @param {string} name
   * @param {string} kind
   * @param {Record<string, string>} annotations
   * @param {AbortSignal} signal
   */
  constructor(name, kind, annotations, signal) {
    this.name = name;
    this.kind = kind;
    this.annotations = annotations;
    this.signal = signal;
    const types = (annotations.supported_shape_types ?? "").split(",").map((type) => type.trim());
    this.tracks = new Tracks(types.filter(Boolean));
    this.threshold = 0;
    /** @type {PictureSource | null} */
    this.source = null;
    /** @type {Picture | null} */
    this.picture = null;
    /** @type {Promise<void> | null} */
    this.pending = null;
    this.runRequested = false;
    this.stepping = false;
    this.requestedIndex = 0;
    this.requestsInFlight = 0;
    this.generation = 0;
    this.index = 0;
    this.playing = false;
    /** @type {Map<number, Result>} */
    this.results = new Map();
    /** @type {Map<number, Prompts>} */
    this.prompts = new Map();
  }

  // What the page does, overridden by its class

  /** @param {Picture} _picture */
  present(_picture) {}

  onSourceOpened() {}

  /** @param {boolean} _isBusy */
  setBusy(_isBusy) {}

  /** @param {any} _error */
  showError(_error) {}

  /** @param {string} _text */
  setStatus(_text) {}

  drawPanels() {}

  // Pictures

  reset() {
    this.playing = false;
    // Replies for previous pictures are ignored.
    this.generation += 1;
    this.index = 0;
    this.results = new Map();
    this.prompts = new Map();
    this.tracks.clear();
  }

  get prompt() {
    const prompt = this.prompts.get(this.index) ?? new Prompts();
    this.prompts.set(this.index, prompt);
    return prompt;
  }

  get result() {
    return this.results.get(this.index) ?? null;
  }

  /** The frames of the two pictures in re-identification, and whether the second one is shown. */
  get pair() {
    const first = Math.min(this.index, Math.max(0, (this.source?.count ?? 0) - 2));
    return { first, second: first + 1, isSecond: this.index > first };
  }

  /** @param {Iterable<File>} files */
  async openFiles(files) {
    await this.openSource(() => sourceFromFiles(files));
  }

  /**
   * Replace the pictures by those that `load` returns.
   *
   * @param {() => PictureSource | Promise<PictureSource>} load
   */
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

  /**
   * Show another picture of the source; a detector processes it unless it has a result.
   *
   * @param {number} index
   */
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

  /** Show the next picture; a tracker follows its shapes there. */
  async nextFrame() {
    const from = this.index;
    if (this.stepping || !this.source || from + 1 >= this.source.count) return false;
    this.stepping = true;
    try {
      return await this.nextFrameFrom(from);
    } finally {
      this.stepping = false;
    }
  }

  /** @param {number} from */
  async nextFrameFrom(from) {
    const tracksShapes =
      this.kind === "tracker" && this.tracks.shapesAt(from).length > 0 && !this.tracks.has(from + 1);
    await this.showFrame(from + 1);
    if (!tracksShapes) return true;
    return this.send(this.tracks.followRequest(from), (shapes, reply) =>
      this.tracks.setFollowed(from, from + 1, reply?.states ?? [], shapes),
    );
  }

  /** Step to the last picture, or until the user stops. */
  async play() {
    this.playing = !this.playing;
    this.drawPanels();
    while (this.playing && !this.signal.aborted) {
      const start = performance.now();
      if (!(await this.nextFrame())) this.playing = false;
      const delay = 1000 / (this.source?.rate || 12) - (performance.now() - start);
      await new Promise((resolve) => setTimeout(resolve, Math.max(0, delay)));
    }
    this.drawPanels();
  }

  /**
   * Track a shape from this picture on.
   *
   * @param {Pick<Shape, "type" | "points">} drawn
   */
  track(drawn) {
    const frame = this.index;
    const shape = { ...EMPTY_SHAPE, ...drawn };
    return this.send(this.tracks.startRequest(shape), (shapes, reply) =>
      this.tracks.addTrack(frame, shape, reply?.states ?? [], shapes),
    );
  }

  /** Return the input that a request still needs, "" if none is missing. */
  missingInput() {
    if (!this.source) return "Choose a picture first.";
    if (this.kind === "interactor") return missingPrompt(this.annotations, this.prompt);
    if (this.kind === "tracker") {
      if (this.tracks.shapesAt(this.index).length) return "";
      return "Draw a shape around the object, then go to the next picture.";
    }
    if (this.kind === "reid") {
      if (this.source.count < 2) return "Choose two pictures.";
      const { first, second } = this.pair;
      if (!this.prompts.get(first)?.boxes.length) return "Draw boxes on the first picture.";
      if (!this.prompts.get(second)?.boxes.length) return "Draw boxes on the second picture.";
    }
    return "";
  }

  // Requests

  /** Send a request for the current input. While one is in flight, only the latest input waits. */
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
    const { source } = this;
    if (!source) return;
    const frames = [this.pair.first, this.pair.second];
    const boxes = frames.map((frame) => this.prompts.get(frame)?.boxes ?? []);
    const [picture, second] = [await source.picture(frames[0]), await source.picture(frames[1])];
    await this.send({ picture, second, boxes }, null, frames);
  }

  /**
   * Send a request; return true if the reply could be read. `onShapes` gets its shapes and the reply.
   *
   * @param {Partial<import("./cvat_requests.js").Input>} input
   * @param {((shapes: Shape[], reply: any) => void) | null} onShapes
   */
  async send(input, onShapes = null, frames = [this.index]) {
    const { picture, kind, generation } = this;
    if (!picture) return false;
    const entries = requestEntries(kind, { picture, ...input, threshold: this.threshold });
    this.requestsInFlight += 1;
    this.setBusy(true);
    /** @type {Result} */
    const result = { entries, shapes: [], skipped: 0 };
    try {
      const response = await invoke(this.name, entries, this.signal);
      if (generation !== this.generation) return false;
      result.response = response;
      if (response.status < 200 || response.status > 299) throw replyError(this.name, response);
      const reply = JSON.parse(response.text);
      Object.assign(result, shapesOf(kind, reply, picture));
      if (kind === "reid") result.matches = Array.isArray(reply) ? reply : [];
      onShapes?.(result.shapes, reply);
    } catch (error) {
      if (this.signal.aborted || generation !== this.generation) return false;
      result.error = error instanceof SyntaxError ? new Error(`${this.name} did not return JSON`) : error;
    } finally {
      this.requestsInFlight -= 1;
      this.setBusy(this.requestsInFlight > 0);
    }
    for (const frame of frames) this.results.set(frame, result);
    this.drawPanels();
    const { response } = result;
    if (response && response.status < 300) this.checkReply(result, response.text, picture);
    return !result.error;
  }

  /**
   * @param {Result} result
   * @param {string} reply
   * @param {Picture} picture
   */
  async checkReply(result, reply, picture) {
    try {
      const spec = this.annotations.spec ?? "";
      result.findings = await checkReply(this.kind, spec, result.entries, reply, picture, this.signal);
    } catch (error) {
      result.checkError = error;
    }
    if (!this.signal.aborted && this.result === result) this.drawPanels();
  }
}
