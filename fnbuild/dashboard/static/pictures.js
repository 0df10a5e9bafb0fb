// Pictures to send: files, what is dropped or pasted, frames of videos, samples.
//
// A picture is {name, blob, bitmap, width, height}; `blob` is what functions get. A source is
// {count, name(i), picture(i), video, close()}, of which a person steps through the pictures; `left`
// are the names of files that were chosen too and are none.

const ORIENTATION = 0x0112;
const VIDEO = /^video\//;
const MAX_CACHED = 40;
// Milliseconds to wait for the frame of a video that was sought to be painted.
const PRESENT_TIMEOUT_MS = 250;

/** Samples that need no file: their name and how to get the source. */
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
  reid: [["Two looks at an astronaut", () => movingSample("astronaut", 2, 9)]],
};

/** A source from files: pictures by name, or one video. Raises an error that names the file. */
export async function sourceFromFiles(files) {
  const usable = [...files].filter((file) => file.size && !file.name.startsWith("."));
  if (!usable.length) throw new Error("there is no picture among these files");
  const video = usable.find((file) => VIDEO.test(file.type));
  if (video) return videoSource(video);
  // A folder may hold other things; a file that was chosen by itself is tried whatever it is.
  const pictures = usable.filter((file) => file.type.startsWith("image/"));
  const selected = pictures.length ? pictures : usable.slice(0, 1);
  selected.sort((a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true }));
  const leftOutNames = usable.filter((file) => !selected.includes(file)).map((file) => file.name);
  return {
    ...pictureSource(
      selected.length,
      (i) => selected[i].name,
      (i) => decodePicture(selected[i], selected[i].name),
    ),
    left: leftOutNames,
  };
}

/** What is said of files that are no pictures, "" when there are none. */
export function leftOutText(source) {
  const leftOutNames = source?.left ?? [];
  if (!leftOutNames.length) return "";
  const files =
    leftOutNames.length > 1 ? `${leftOutNames.length} files that are` : `${leftOutNames[0]}, which is`;
  return ` · without ${files} no picture`;
}

const nameOf = (file) => file.webkitRelativePath || file.name;

function pictureSource(count, name, load) {
  const cache = new Map();
  return {
    count,
    name,
    video: false,
    forget: () => cache.clear(),
    close: () => cache.clear(),
    async picture(i) {
      if (!cache.has(i)) cache.set(i, await load(i));
      if (cache.size > MAX_CACHED) cache.delete([...cache.keys()].find((key) => key !== i));
      return cache.get(i);
    },
  };
}

/** The picture in a file, upright: as CVAT keeps pictures, which it sends to functions. */
async function decodePicture(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${name} is no picture that this browser can show: take a JPEG, PNG or WebP file`);
  }
  const { width, height } = bitmap;
  if (blob.type === "image/jpeg" && (await orientation(blob)) !== 1) {
    blob = await encodeJpeg(canvasOf(bitmap, width, height), 1);
  }
  return { name, blob, bitmap, width, height };
}

/** The EXIF orientation of a JPEG file, 1 (upright) to 8. */
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
    // The file ends within its own headers: nothing says that it is turned.
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

function orientationTag(data, start) {
  const littleEndian = data.getUint16(start) === 0x4949;
  const directory = start + data.getUint32(start + 4, littleEndian);
  for (let i = 0; i < data.getUint16(directory, littleEndian); i += 1) {
    const entry = directory + 2 + 12 * i;
    if (data.getUint16(entry, littleEndian) === ORIENTATION) return data.getUint16(entry + 8, littleEndian);
  }
  return 1;
}

function canvasOf(source, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").drawImage(source, 0, 0, width, height);
  return canvas;
}

function encodeJpeg(canvas, quality = 0.95) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

/** The frames of a video, so many a second; each is encoded anew, as CVAT does. */
async function videoSource(file) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, preload: "auto", playsInline: true });
  video.src = URL.createObjectURL(file);
  await waitForEvent(
    video,
    "loadeddata",
    `${file.name} is no video that this browser can play: take WebM, or pictures`,
  );
  if (!Number.isFinite(video.duration)) {
    // A recording does not know its length before its end was seen.
    video.currentTime = 1e7;
    await waitForEvent(video, "seeked", `${file.name} cannot be searched`);
  }
  const source = pictureSource(1, (i) => `${file.name.replace(/\.[^.]*$/, "")}-${i + 1}.jpg`, queueFrame);
  source.video = true;
  source.duration = video.duration;
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
  let last = Promise.resolve();
  return source;

  // One after the other: a video has one place at a time.
  function queueFrame(i) {
    last = last.catch(() => {}).then(() => frameAt((i + 0.5) / source.rate, source.name(i)));
    return last;
  }

  async function frameAt(time, name) {
    const seeked = waitForEvent(video, "seeked", `${file.name} cannot be shown at ${time.toFixed(2)} s`);
    const presented = new Promise((resolve) => video.requestVideoFrameCallback?.(resolve));
    video.currentTime = Math.min(time, video.duration);
    await seeked;
    // A busy browser may still paint the frame before; one that is sought again is not presented again.
    await Promise.race([presented, new Promise((resolve) => setTimeout(resolve, PRESENT_TIMEOUT_MS))]);
    const { videoWidth: width, videoHeight: height } = video;
    const canvas = canvasOf(video, width, height);
    return { name, blob: await encodeJpeg(canvas), bitmap: canvas, width, height };
  }
}

function waitForEvent(target, event, message) {
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    const once = { signal: stop.signal };
    target.addEventListener(event, () => (stop.abort(), resolve()), once);
    target.addEventListener("error", () => (stop.abort(), reject(new Error(message))), once);
  });
}

async function loadPhotograph(name) {
  const response = await fetch(`/static/samples/${name}.jpg`);
  if (!response.ok) throw new Error(`the sample ${name} cannot be loaded`);
  return decodePicture(await response.blob(), `${name}.jpg`);
}

function samplePicture(name) {
  return pictureSource(
    1,
    () => `${name}.jpg`,
    () => loadPhotograph(name),
  );
}

/** Looks at parts of a photograph that move and grow: frames whose motion is known. */
function movingSample(name, count = 24, stride = 1) {
  const frameName = (i) => `${name}-${i + 1}.jpg`;
  return pictureSource(count, frameName, async (i) => {
    const { bitmap, width, height } = await loadPhotograph(name);
    const [frameWidth, frameHeight] = [Math.round(width * 0.8), Math.round(height * 0.8)];
    const angle = ((i * stride) / 24) * 2 * Math.PI;
    const scale = 1.08 - 0.08 * Math.cos(angle);
    const [dx, dy] = [width * 0.1 * (1 + Math.sin(angle)), height * 0.1 * (1 - Math.cos(angle))];
    const canvas = canvasOf(bitmap, frameWidth, frameHeight);
    canvas.getContext("2d").drawImage(bitmap, -dx * scale, -dy * scale, width * scale, height * scale);
    const blob = await encodeJpeg(canvas, 0.9);
    return { name: frameName(i), blob, bitmap: canvas, width: frameWidth, height: frameHeight };
  });
}

/** A circle, a square and a triangle on a dull ground. */
function drawnShapes() {
  return pictureSource(
    1,
    () => "shapes.jpg",
    async () => {
      const canvas = document.createElement("canvas");
      [canvas.width, canvas.height] = [320, 240];
      const context = canvas.getContext("2d");
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

/** The files of a drop, those in folders too. */
export async function filesInTransfer(transfer) {
  const entries = [...transfer.items].map((entry) => entry.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((entry) => entry.isDirectory)) return [...transfer.files];
  const files = [];
  for (const entry of entries) files.push(...(await filesIn(entry)));
  return files;
}

async function filesIn(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const files = [];
  // A reader gives some at a time, at the end none.
  for (;;) {
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return files;
    for (const entry of batch) files.push(...(await filesIn(entry)));
  }
}

/** A picture of its full size with what `paint(context, unit)` draws over it, as a PNG file. */
export function renderDrawing({ bitmap, width, height }, paint) {
  const canvas = canvasOf(bitmap, width, height);
  paint(canvas.getContext("2d"), Math.max(0.75, Math.sqrt(width * height) / 600));
  return new Promise((resolve) => canvas.toBlob(resolve, "image/png"));
}

/** Hand a file to the person. */
export function download(blob, name) {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(blob);
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 10_000);
}
