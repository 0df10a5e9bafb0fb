// Pictures to send: files, frames of videos, samples.
//
// A picture's `blob` is what functions get. A source has the pictures through which the user steps;
// `ignoredFiles` are the names of chosen files that are not pictures.

import { contextOf, h } from "./dom.js";

const ORIENTATION = 0x0112;
const VIDEO = /^video\//;
const MAX_CACHED = 40;
const PRESENT_TIMEOUT_MS = 250;

/**
 * Names and sources of samples by kind of function.
 *
 * @type {Record<string, [name: string, load: () => PictureSource][]>}
 */
export const SAMPLES = {
  detector: [
    ["Astronaut", () => samplePicture("astronaut")],
    ["Rocket", () => samplePicture("rocket")],
    ["Cup", () => samplePicture("coffee")],
    ["Drawn shapes", () => drawnShapes()],
  ],
  interactor: [
    ["Rocket", () => samplePicture("rocket")],
    ["Cup", () => samplePicture("coffee")],
    ["Astronaut", () => samplePicture("astronaut")],
  ],
  tracker: [
    ["Moving astronaut", () => movingSample("astronaut")],
    ["Moving cup", () => movingSample("coffee")],
  ],
  reid: [["Two views of an astronaut", () => movingSample("astronaut", 2, 9)]],
};

/**
 * Return a source of files: pictures sorted by name, or one video. Throws an error that names an unreadable
 * file.
 *
 * @param {Iterable<File>} files
 */
export async function sourceFromFiles(files) {
  const usable = [...files].filter((file) => file.size && !file.name.startsWith("."));
  if (!usable.length) throw new Error("there is no picture among these files");
  const video = usable.find((file) => VIDEO.test(file.type));
  if (video) return videoSource(video);
  // A folder may have other files; a single file is tried whatever its type.
  const pictures = usable.filter((file) => file.type.startsWith("image/"));
  const selected = pictures.length ? pictures : usable.slice(0, 1);
  selected.sort((a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true }));
  const ignoredFiles = usable.filter((file) => !selected.includes(file)).map((file) => file.name);
  const source = pictureSource(
    selected.length,
    (i) => selected[i].name,
    (i) => decodePicture(selected[i], selected[i].name),
  );
  return Object.assign(source, { ignoredFiles });
}

/**
 * Return a note about chosen files that are not pictures, "" if there are none.
 *
 * @param {PictureSource | null} source
 */
export function ignoredFilesText(source) {
  const names = source?.ignoredFiles ?? [];
  if (!names.length) return "";
  return names.length > 1
    ? ` · ${names.length} other files ignored`
    : ` · ${names[0]} ignored: not a picture`;
}

/** @param {File} file */
const nameOf = (file) => file.webkitRelativePath || file.name;

/**
 * Return a source that keeps the last pictures.
 *
 * @param {number} count
 * @param {(index: number) => string} name
 * @param {(index: number) => Promise<Picture>} load
 * @returns {PictureSource & {forget: () => void}}
 */
function pictureSource(count, name, load) {
  /** @type {Map<number, Picture>} */
  const cache = new Map();
  return {
    count,
    name,
    video: false,
    ignoredFiles: [],
    rate: 0,
    setRate: () => {},
    forget: () => cache.clear(),
    close: () => cache.clear(),
    async picture(i) {
      const picture = cache.get(i) ?? (await load(i));
      cache.set(i, picture);
      const oldest = [...cache.keys()].find((key) => key !== i);
      if (cache.size > MAX_CACHED && oldest !== undefined) cache.delete(oldest);
      return picture;
    },
  };
}

/**
 * Decode a picture upright, as CVAT stores pictures and sends them to functions.
 *
 * @param {Blob} blob
 * @param {string} name
 * @returns {Promise<Picture>}
 */
async function decodePicture(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${name} is not a picture that this browser can show: use a JPEG, PNG or WebP file`);
  }
  const { width, height } = bitmap;
  if (blob.type === "image/jpeg" && (await orientation(blob)) !== 1) {
    blob = await encodeJpeg(canvasOf(bitmap, width, height), 1);
  }
  return { name, blob, bitmap, width, height };
}

/**
 * Return the EXIF orientation of a JPEG file, from 1 (upright) to 8.
 *
 * @param {Blob} blob
 */
async function orientation(blob) {
  const data = new DataView(await blob.slice(0, 1 << 17).arrayBuffer());
  try {
    for (let position = 2; data.getUint8(position) === 0xff; position += 2 + data.getUint16(position + 2)) {
      const marker = data.getUint8(position + 1);
      if (marker === 0xda) return 1;
      if (marker === 0xe1 && data.getUint32(position + 4) === 0x45786966)
        return orientationTag(data, position + 10);
    }
  } catch (error) {
    // The file ends within its headers, so it records no orientation.
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

/**
 * @param {DataView} data
 * @param {number} start
 */
function orientationTag(data, start) {
  const littleEndian = data.getUint16(start) === 0x4949;
  const directory = start + data.getUint32(start + 4, littleEndian);
  for (let i = 0; i < data.getUint16(directory, littleEndian); i += 1) {
    const entry = directory + 2 + 12 * i;
    if (data.getUint16(entry, littleEndian) === ORIENTATION) return data.getUint16(entry + 8, littleEndian);
  }
  return 1;
}

/**
 * @param {CanvasImageSource} source
 * @param {number} width
 * @param {number} height
 */
function canvasOf(source, width, height) {
  const canvas = h("canvas", { width, height });
  contextOf(canvas).drawImage(source, 0, 0, width, height);
  return canvas;
}

/**
 * @param {HTMLCanvasElement} canvas
 * @returns {Promise<Blob>}
 */
function encodeJpeg(canvas, quality = 0.95) {
  return encode(canvas, "image/jpeg", quality);
}

/**
 * @param {HTMLCanvasElement} canvas
 * @param {string} type
 * @param {number} [quality]
 * @returns {Promise<Blob>}
 */
function encode(canvas, type, quality) {
  return new Promise((resolve, reject) => {
    /** @param {Blob | null} blob */
    const finish = (blob) => (blob ? resolve(blob) : reject(new Error("the picture cannot be encoded")));
    canvas.toBlob(finish, type, quality);
  });
}

/**
 * Return the frames of a video at a selectable rate, each encoded as CVAT does.
 *
 * @param {File} file
 */
async function videoSource(file) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, preload: "auto", playsInline: true });
  video.src = URL.createObjectURL(file);
  await waitForEvent(
    video,
    "loadeddata",
    `${file.name} is not a video that this browser can play: use WebM, or pictures`,
  );
  if (!Number.isFinite(video.duration)) {
    // The duration of a recording is known only after a seek to its end.
    video.currentTime = 1e7;
    await waitForEvent(video, "seeked", `${file.name} cannot be searched`);
  }
  const source = pictureSource(1, (i) => `${file.name.replace(/\.[^.]*$/, "")}-${i + 1}.jpg`, queueFrame);
  source.video = true;
  source.setRate = (rate) => {
    source.forget();
    source.rate = rate;
    source.count = Math.max(1, Math.floor(video.duration * rate + 0.01));
  };
  source.setRate(25);
  source.close = () => {
    source.forget();
    URL.revokeObjectURL(video.src);
    video.removeAttribute("src");
  };
  /** @type {Promise<unknown>} */
  let last = Promise.resolve();
  return source;

  /**
   * Load one frame after the other: a video has one position at a time.
   *
   * @param {number} i
   */
  function queueFrame(i) {
    const frame = last.catch(() => {}).then(() => frameAt((i + 0.5) / source.rate, source.name(i)));
    last = frame;
    return frame;
  }

  /**
   * @param {number} time
   * @param {string} name
   */
  async function frameAt(time, name) {
    const seeked = waitForEvent(video, "seeked", `${file.name} cannot be shown at ${time.toFixed(2)} s`);
    const presented = new Promise((resolve) => video.requestVideoFrameCallback?.(resolve));
    video.currentTime = Math.min(time, video.duration);
    await seeked;
    // A busy browser may still paint the previous frame; after a seek to the same frame it presents none.
    await Promise.race([presented, new Promise((resolve) => setTimeout(resolve, PRESENT_TIMEOUT_MS))]);
    const { videoWidth: width, videoHeight: height } = video;
    const canvas = canvasOf(video, width, height);
    return { name, blob: await encodeJpeg(canvas), bitmap: canvas, width, height };
  }
}

/**
 * @param {EventTarget} target
 * @param {string} event
 * @param {string} message
 * @returns {Promise<void>}
 */
function waitForEvent(target, event, message) {
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    const once = { signal: stop.signal };
    target.addEventListener(event, () => (stop.abort(), resolve()), once);
    target.addEventListener("error", () => (stop.abort(), reject(new Error(message))), once);
  });
}

/** @param {string} name */
async function loadPhotograph(name) {
  const response = await fetch(`/static/samples/${name}.jpg`);
  if (!response.ok) throw new Error(`the sample ${name} cannot be loaded`);
  return decodePicture(await response.blob(), `${name}.jpg`);
}

/** @param {string} name */
function samplePicture(name) {
  return pictureSource(
    1,
    () => `${name}.jpg`,
    () => loadPhotograph(name),
  );
}

/**
 * Return sections of a photograph that move and grow: frames with a known motion.
 *
 * @param {string} name
 */
function movingSample(name, count = 24, stride = 1) {
  /** @param {number} i */
  const frameName = (i) => `${name}-${i + 1}.jpg`;
  return pictureSource(count, frameName, async (i) => {
    const { bitmap, width, height } = await loadPhotograph(name);
    const [frameWidth, frameHeight] = [Math.round(width * 0.8), Math.round(height * 0.8)];
    const angle = ((i * stride) / 24) * 2 * Math.PI;
    const scale = 1.08 - 0.08 * Math.cos(angle);
    const [dx, dy] = [width * 0.1 * (1 + Math.sin(angle)), height * 0.1 * (1 - Math.cos(angle))];
    const canvas = canvasOf(bitmap, frameWidth, frameHeight);
    contextOf(canvas).drawImage(bitmap, -dx * scale, -dy * scale, width * scale, height * scale);
    const blob = await encodeJpeg(canvas, 0.9);
    return { name: frameName(i), blob, bitmap: canvas, width: frameWidth, height: frameHeight };
  });
}

/** Return a picture of a circle, a square and a triangle. */
function drawnShapes() {
  return pictureSource(
    1,
    () => "shapes.jpg",
    async () => {
      const canvas = h("canvas", { width: 320, height: 240 });
      const context = contextOf(canvas);
      context.fillStyle = "rgb(108 112 104)";
      context.fillRect(0, 0, 320, 240);
      context.fillStyle = "rgb(196 62 48)";
      context.beginPath();
      context.arc(84, 88, 42, 0, 2 * Math.PI);
      context.fill();
      context.fillStyle = "rgb(48 96 188)";
      context.translate(228, 82);
      context.rotate(0.3);
      context.fillRect(-38, -38, 76, 76);
      context.resetTransform();
      context.fillStyle = "rgb(226 178 40)";
      context.beginPath();
      for (const [x, y] of [
        [160, 132],
        [214, 220],
        [104, 216],
      ])
        context.lineTo(x, y);
      context.fill();
      const blob = await encodeJpeg(canvas, 0.92);
      return { name: "shapes.jpg", blob, bitmap: canvas, width: 320, height: 240 };
    },
  );
}

/**
 * Return a picture in full size with what `paint` draws over it, as PNG.
 *
 * @param {Picture} picture
 * @param {(context: CanvasRenderingContext2D, unit: number) => void} paint
 * @returns {Promise<Blob>}
 */
export function renderDrawing({ bitmap, width, height }, paint) {
  const canvas = canvasOf(bitmap, width, height);
  paint(contextOf(canvas), Math.max(0.75, Math.sqrt(width * height) / 600));
  return encode(canvas, "image/png");
}

/**
 * Save a file on the user's machine.
 *
 * @param {Blob} blob
 * @param {string} name
 */
export function download(blob, name) {
  const link = h("a", { href: URL.createObjectURL(blob), download: name });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
