// Pictures to send: files, what is dropped or pasted, frames of videos, samples.
//
// A picture is {name, blob, bitmap, width, height}; `blob` is what functions get. A source is
// {count, name(i), picture(i), video, close()}, of which a person steps through the pictures; `left`
// are the names of files that were chosen too and are none.

const ORIENTATION = 0x0112;
const VIDEO = /^video\//;
const KEPT = 40;
// Milliseconds to wait for the frame of a video that was sought to be painted.
const PRESENTED_WITHIN = 250;

/** Samples that need no file: their name and how to get the source. */
export const SAMPLES = {
  detector: [
    ["Astronaut", () => still("astronaut")],
    ["Rocket", () => still("rocket")],
    ["Cup", () => still("coffee")],
    ["Drawn shapes", () => drawn()],
  ],
  interactor: [
    ["Rocket", () => still("rocket")],
    ["Cup", () => still("coffee")],
    ["Astronaut", () => still("astronaut")],
  ],
  tracker: [
    ["Moving astronaut", () => moving("astronaut")],
    ["Moving cup", () => moving("coffee")],
  ],
  reid: [["Two looks at an astronaut", () => moving("astronaut", 2, 9)]],
};

/** A source from files: pictures by name, or one video. Raises an error that names the file. */
export async function fromFiles(files) {
  const usable = [...files].filter((one) => one.size && !one.name.startsWith("."));
  if (!usable.length) throw new Error("there is no picture among these files");
  const video = usable.find((one) => VIDEO.test(one.type));
  if (video) return fromVideo(video);
  // A folder may hold other things; a file that was chosen by itself is tried whatever it is.
  const pictures = usable.filter((one) => one.type.startsWith("image/"));
  const chosen = pictures.length ? pictures : usable.slice(0, 1);
  chosen.sort((a, b) => nameOf(a).localeCompare(nameOf(b), undefined, { numeric: true }));
  const left = usable.filter((one) => !chosen.includes(one)).map((one) => one.name);
  return {
    ...inMemory(
      chosen.length,
      (i) => chosen[i].name,
      (i) => decoded(chosen[i], chosen[i].name),
    ),
    left,
  };
}

/** What is said of files that are no pictures, "" when there are none. */
export function leftOut(source) {
  const left = source?.left ?? [];
  if (!left.length) return "";
  const files = left.length > 1 ? `${left.length} files that are` : `${left[0]}, which is`;
  return ` · without ${files} no picture`;
}

const nameOf = (file) => file.webkitRelativePath || file.name;

function inMemory(count, name, load) {
  const kept = new Map();
  return {
    count,
    name,
    video: false,
    forget: () => kept.clear(),
    close: () => kept.clear(),
    async picture(i) {
      if (!kept.has(i)) kept.set(i, await load(i));
      if (kept.size > KEPT) kept.delete([...kept.keys()].find((key) => key !== i));
      return kept.get(i);
    },
  };
}

/** The picture in a file, upright: as CVAT keeps pictures, which it sends to functions. */
async function decoded(blob, name) {
  let bitmap;
  try {
    bitmap = await createImageBitmap(blob, { imageOrientation: "from-image" });
  } catch {
    throw new Error(`${name} is no picture that this browser can show: take a JPEG, PNG or WebP file`);
  }
  const { width, height } = bitmap;
  if (blob.type === "image/jpeg" && (await orientation(blob)) !== 1) {
    blob = await encoded(canvasOf(bitmap, width, height), 1);
  }
  return { name, blob, bitmap, width, height };
}

/** The EXIF orientation of a JPEG file, 1 (upright) to 8. */
async function orientation(blob) {
  const data = new DataView(await blob.slice(0, 1 << 17).arrayBuffer());
  try {
    for (let at = 2; data.getUint8(at) === 0xff; at += 2 + data.getUint16(at + 2)) {
      const marker = data.getUint8(at + 1);
      if (marker === 0xda) return 1;
      if (marker === 0xe1 && data.getUint32(at + 4) === 0x45786966) return tagged(data, at + 10);
    }
  } catch (error) {
    // The file ends within its own headers: nothing says that it is turned.
    if (!(error instanceof RangeError)) throw error;
  }
  return 1;
}

function tagged(data, start) {
  const little = data.getUint16(start) === 0x4949;
  const directory = start + data.getUint32(start + 4, little);
  for (let i = 0; i < data.getUint16(directory, little); i += 1) {
    const entry = directory + 2 + 12 * i;
    if (data.getUint16(entry, little) === ORIENTATION) return data.getUint16(entry + 8, little);
  }
  return 1;
}

function canvasOf(source, width, height) {
  const canvas = document.createElement("canvas");
  [canvas.width, canvas.height] = [width, height];
  canvas.getContext("2d").drawImage(source, 0, 0, width, height);
  return canvas;
}

function encoded(canvas, quality = 0.95) {
  return new Promise((resolve) => canvas.toBlob(resolve, "image/jpeg", quality));
}

/** The frames of a video, so many a second; each is encoded anew, as CVAT does. */
async function fromVideo(file) {
  const video = document.createElement("video");
  Object.assign(video, { muted: true, preload: "auto", playsInline: true });
  video.src = URL.createObjectURL(file);
  await heard(
    video,
    "loadeddata",
    `${file.name} is no video that this browser can play: take WebM, or pictures`,
  );
  if (!Number.isFinite(video.duration)) {
    // A recording does not know its length before its end was seen.
    video.currentTime = 1e7;
    await heard(video, "seeked", `${file.name} cannot be searched`);
  }
  const source = inMemory(1, (i) => `${file.name.replace(/\.[^.]*$/, "")}-${i + 1}.jpg`, frame);
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
  function frame(i) {
    last = last.catch(() => {}).then(() => frameAt((i + 0.5) / source.rate, source.name(i)));
    return last;
  }

  async function frameAt(time, name) {
    const sought = heard(video, "seeked", `${file.name} cannot be shown at ${time.toFixed(2)} s`);
    const presented = new Promise((resolve) => video.requestVideoFrameCallback?.(resolve));
    video.currentTime = Math.min(time, video.duration);
    await sought;
    // A busy browser may still paint the frame before; one that is sought again is not presented again.
    await Promise.race([presented, new Promise((resolve) => setTimeout(resolve, PRESENTED_WITHIN))]);
    const { videoWidth: width, videoHeight: height } = video;
    const canvas = canvasOf(video, width, height);
    return { name, blob: await encoded(canvas), bitmap: canvas, width, height };
  }
}

function heard(target, event, complaint) {
  return new Promise((resolve, reject) => {
    const stop = new AbortController();
    const once = { signal: stop.signal };
    target.addEventListener(event, () => (stop.abort(), resolve()), once);
    target.addEventListener("error", () => (stop.abort(), reject(new Error(complaint))), once);
  });
}

async function photograph(name) {
  const response = await fetch(`/static/samples/${name}.jpg`);
  if (!response.ok) throw new Error(`the sample ${name} cannot be loaded`);
  return decoded(await response.blob(), `${name}.jpg`);
}

function still(name) {
  return inMemory(
    1,
    () => `${name}.jpg`,
    () => photograph(name),
  );
}

/** Looks at parts of a photograph that move and grow: frames whose motion is known. */
function moving(name, count = 24, stride = 1) {
  const frameName = (i) => `${name}-${i + 1}.jpg`;
  return inMemory(count, frameName, async (i) => {
    const { bitmap, width, height } = await photograph(name);
    const [across, down] = [Math.round(width * 0.8), Math.round(height * 0.8)];
    const turn = ((i * stride) / 24) * 2 * Math.PI;
    const scale = 1.08 - 0.08 * Math.cos(turn);
    const [dx, dy] = [width * 0.1 * (1 + Math.sin(turn)), height * 0.1 * (1 - Math.cos(turn))];
    const canvas = canvasOf(bitmap, across, down);
    canvas.getContext("2d").drawImage(bitmap, -dx * scale, -dy * scale, width * scale, height * scale);
    const blob = await encoded(canvas, 0.9);
    return { name: frameName(i), blob, bitmap: canvas, width: across, height: down };
  });
}

/** A circle, a square and a triangle on a dull ground. */
function drawn() {
  return inMemory(
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
      const blob = await encoded(canvas, 0.92);
      return { name: "shapes.jpg", blob, bitmap: canvas, width: 320, height: 240 };
    },
  );
}

/** The files of a drop, those in folders too. */
export async function filesOf(transfer) {
  const entries = [...transfer.items].map((one) => one.webkitGetAsEntry?.()).filter(Boolean);
  if (!entries.some((one) => one.isDirectory)) return [...transfer.files];
  const found = [];
  for (const one of entries) found.push(...(await within(one)));
  return found;
}

async function within(entry) {
  if (entry.isFile) return [await new Promise((resolve, reject) => entry.file(resolve, reject))];
  const reader = entry.createReader();
  const found = [];
  // A reader gives some at a time, at the end none.
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    for (const one of some) found.push(...(await within(one)));
  }
}

/** A picture of its full size with what `paint(context, unit)` draws over it, as a PNG file. */
export function saved({ bitmap, width, height }, paint) {
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
