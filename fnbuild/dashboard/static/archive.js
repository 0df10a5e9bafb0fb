// A zip archive of files, made in the browser. Files are stored, not compressed.

const SKIPPED = /(^|\/)(\.git|__pycache__|\.venv|node_modules|\.DS_Store)(\/|$)/;
const TABLE = Uint32Array.from({ length: 256 }, (_, index) => {
  let value = index;
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? 0xedb88320 ^ (value >>> 1) : value >>> 1;
  return value;
});
const UTF8 = 0x0800; // the flag for names in UTF-8
const DAY_ONE = 0x21; // 1980-01-01, the first day that the format knows

/** The files `[{path, file}]` as one archive. What no function needs, as .git, is left out. */
export async function zip(files) {
  const chosen = files.filter(({ path }) => !SKIPPED.test(path));
  const parts = [];
  const directory = [];
  let offset = 0;
  for (const { path, file } of chosen) {
    const name = new TextEncoder().encode(path);
    const data = new Uint8Array(await file.arrayBuffer());
    const entry = [20, UTF8, 0, 0, DAY_ONE, checksum(data), data.length, data.length, name.length, 0];
    const local = record("IHHHHHIIIHH", [0x04034b50, ...entry]);
    directory.push(
      record("IHHHHHHIIIHHHHHII", [0x02014b50, 0x0314, ...entry, 0, 0, 0, 0o100644 * 0x10000, offset]),
      name,
    );
    parts.push(local, name, data);
    offset += local.length + name.length + data.length;
  }
  const size = directory.reduce((sum, one) => sum + one.length, 0);
  const end = record("IHHHHIIH", [0x06054b50, 0, 0, chosen.length, chosen.length, size, offset, 0]);
  return new Blob([...parts, ...directory, end], { type: "application/zip" });
}

/** Files that were dropped: what is in folders by its path, `{name, files: [{path, file}]}`. */
export async function dropped(transfer) {
  const entries = [...transfer.items].map((item) => item.webkitGetAsEntry?.()).filter(Boolean);
  const files = [];
  if (!entries.length) return chosen(transfer.files);
  const single = entries.length === 1 && entries[0].isDirectory ? entries[0] : null;
  for (const entry of single ? await childrenOf(single) : entries) await collect(entry, "", files);
  return { name: single?.name ?? "", files };
}

/** Files that were chosen: paths below the chosen folder, where one was. */
export function chosen(list) {
  const all = [...list];
  const folder = all[0]?.webkitRelativePath?.split("/")[0] ?? "";
  const files = all.map((file) => ({
    path: folder ? file.webkitRelativePath.slice(folder.length + 1) : file.name,
    file,
  }));
  return { name: folder, files };
}

async function collect(entry, above, files) {
  const path = above + entry.name;
  if (SKIPPED.test(path)) return;
  if (entry.isFile) {
    files.push({ path, file: await new Promise((resolve, reject) => entry.file(resolve, reject)) });
  } else {
    for (const child of await childrenOf(entry)) await collect(child, `${path}/`, files);
  }
}

// A reader gives at most 100 children at a time, and none when there are no more.
async function childrenOf(folder) {
  const reader = folder.createReader();
  const found = [];
  for (;;) {
    const some = await new Promise((resolve, reject) => reader.readEntries(resolve, reject));
    if (!some.length) return found;
    found.push(...some);
  }
}

/** Numbers as little-endian bytes: `I` has four, `H` two. */
function record(format, values) {
  const bytes = new DataView(
    new ArrayBuffer([...format].reduce((sum, one) => sum + (one === "I" ? 4 : 2), 0)),
  );
  let at = 0;
  [...format].forEach((kind, index) => {
    if (kind === "I") bytes.setUint32(at, values[index], true);
    else bytes.setUint16(at, values[index], true);
    at += kind === "I" ? 4 : 2;
  });
  return new Uint8Array(bytes.buffer);
}

/** CRC-32, as zip has it. */
function checksum(data) {
  let value = 0xffffffff;
  for (const byte of data) value = TABLE[(value ^ byte) & 0xff] ^ (value >>> 8);
  return (value ^ 0xffffffff) >>> 0;
}
