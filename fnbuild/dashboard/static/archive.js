// Zip archives, created in the browser. Files are stored without compression.

const SKIPPED = /(^|\/)(\.git|__pycache__|\.venv|node_modules|\.DS_Store)(\/|$)/;
const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const UTF8_FLAG = 0x0800;
const FIRST_DATE = 0x21; // 1980-01-01, the first date of the format

/**
 * Return files as a zip archive, without those that no function needs, such as .git.
 *
 * @param {NamedFile[]} files
 */
export async function zip(files) {
  const included = files.filter(({ path }) => !SKIPPED.test(path));
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { path, file } of included) {
    const name = new TextEncoder().encode(path);
    const data = new Uint8Array(await file.arrayBuffer());
    const entry = [20, UTF8_FLAG, 0, 0, FIRST_DATE, crc32(data), data.length, data.length, name.length, 0];
    const local = packRecord("IHHHHHIIIHH", [0x04034b50, ...entry]);
    directory.push(
      packRecord("IHHHHHHIIIHHHHHII", [0x02014b50, 0x0314, ...entry, 0, 0, 0, 0o100644 * 0x10000, offset]),
      name,
    );
    parts.push(local, name, data);
    offset += local.length + name.length + data.length;
  }
  const size = directory.reduce((sum, part) => sum + part.length, 0);
  const end = packRecord("IHHHHIIH", [0x06054b50, 0, 0, included.length, included.length, size, offset, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/**
 * Return the files of a drop, those in folders by their path.
 *
 * @param {DataTransfer} transfer
 */
export async function droppedFiles(transfer) {
  /** @type {any[]} FileSystemEntry */
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry()).filter(Boolean);
  /** @type {NamedFile[]} */
  const files = [];
  if (!entries.length) return chosenFiles(transfer.files);
  const folder = entries.length === 1 && entries[0].isDirectory ? entries[0] : null;
  for (const entry of folder ? await childrenOf(folder) : entries) await collect(entry, "", files);
  return { name: folder?.name ?? "", files };
}

/**
 * Return chosen files, with paths relative to the chosen folder if there is one.
 *
 * @param {Iterable<File>} list
 */
export function chosenFiles(list) {
  const allFiles = [...list];
  const folder = allFiles[0]?.webkitRelativePath?.split("/")[0] ?? "";
  const files = allFiles.map((file) => ({
    path: folder ? file.webkitRelativePath.slice(folder.length + 1) : file.name,
    file,
  }));
  return { name: folder, files };
}

/**
 * @param {any} entry a FileSystemEntry
 * @param {string} prefix
 * @param {NamedFile[]} files
 */
async function collect(entry, prefix, files) {
  const path = prefix + entry.name;
  if (SKIPPED.test(path)) return;
  if (entry.isFile) {
    files.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
  } else {
    for (const child of await childrenOf(entry)) await collect(child, `${path}/`, files);
  }
}

/**
 * Return the entries of a folder. A reader returns at most 100 at a time, and none at the end.
 *
 * @param {any} folder a FileSystemDirectoryEntry
 * @returns {Promise<any[]>}
 */
async function childrenOf(folder) {
  const reader = folder.createReader();
  const children = [];
  for (;;) {
    /** @type {any[]} */
    const batch = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!batch.length) return children;
    children.push(...batch);
  }
}

/**
 * Return numbers as little-endian bytes: `I` takes four, `H` two.
 *
 * @param {string} format
 * @param {number[]} values
 */
function packRecord(format, values) {
  const bytes = new DataView(
    new ArrayBuffer([...format].reduce((sum, letter) => sum + (letter === "I" ? 4 : 2), 0)),
  );
  let position = 0;
  [...format].forEach((kind, index) => {
    if (kind === "I") bytes.setUint32(position, values[index], true);
    else bytes.setUint16(position, values[index], true);
    position += kind === "I" ? 4 : 2;
  });
  return new Uint8Array(bytes.buffer);
}

/**
 * Return the CRC-32 of data, as zip archives and label colours need it.
 *
 * @param {Uint8Array} data
 */
export function crc32(data) {
  let sum = 0xffffffff;
  for (const byte of data) sum = TABLE[(sum ^ byte) & 0xff] ^ (sum >>> 8);
  return (sum ^ 0xffffffff) >>> 0;
}
