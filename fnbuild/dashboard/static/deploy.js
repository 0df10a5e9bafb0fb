// The view `#/deploy`: code from files or from the library, then the form of its deploy.

import { ApiError, call } from "./api.js";
import { chosenFiles, droppedFiles, zip } from "./archive.js";
import { append, button, formatSize, h, setChildren } from "./dom.js";
import { deployForm } from "./deploy_form.js";
import { showLibrary } from "./library.js";
import { errorBox } from "./states.js";

const ARCHIVE = /\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$/i;
const SOURCE_FILE = /\.(py|ya?ml)$/i;
const UPLOAD_LIMIT = 512 * 1024 * 1024;

/** @type {View} */
export function show(root, _params, { title, signal }) {
  title("Deploy");
  const source = h("div", { class: "columns" });
  const form = h("div");
  const output = h("div", { class: "stack" });
  append(root, h("h1", {}, "Deploy a function"), source, form, output);
  const feedback = h("div", { role: "status" });
  const libraryCard = h("section", { class: "card", "aria-labelledby": "library" });
  append(source, dropZone(), libraryCard);
  showLibrary(libraryCard, { signal, onSelect: showForm });

  function dropZone() {
    const files = h("input", { type: "file", multiple: true, class: "visually-hidden", id: "files" });
    const folder = h("input", {
      type: "file",
      webkitdirectory: true,
      class: "visually-hidden",
      id: "folder",
    });
    for (const input of [files, folder]) input.addEventListener("change", () => take(input));
    const zone = h(
      "section",
      { class: "card drop-zone", "aria-labelledby": "upload" },
      h("h2", { id: "upload" }, "Your code"),
      h(
        "p",
        {},
        "Drop a folder with function.yaml and main.py here, a zip or tar.gz of it, or a single Python file.",
      ),
      h(
        "p",
        { class: "actions" },
        files,
        h("label", { class: "button", for: "files" }, "Choose files"),
        folder,
        h("label", { class: "button", for: "folder" }, "Choose a folder"),
      ),
      feedback,
    );
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("drag-over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("drag-over"));
    zone.addEventListener("drop", async (event) => {
      event.preventDefault();
      zone.classList.remove("drag-over");
      if (event.dataTransfer) uploadFiles(await droppedFiles(event.dataTransfer));
    });
    return zone;
  }

  /**
   * Take the chosen files, and allow the same ones to be chosen again after they were edited.
   *
   * @param {HTMLInputElement} input
   */
  function take(input) {
    uploadFiles(chosenFiles(input.files ?? []));
    input.value = "";
  }

  /** @param {{name: string, files: NamedFile[]}} chosen */
  async function uploadFiles({ name, files }) {
    if (!files.length) return;
    setChildren(form);
    setChildren(output);
    try {
      const { body, fileName } = await packUpload(name, files);
      if (body.size > UPLOAD_LIMIT)
        throw new Error(`${fileName} has ${formatSize(body.size)}; 512 MiB is the most`);
      setChildren(
        feedback,
        h("p", { class: "waiting" }, `Uploading ${fileName} (${formatSize(body.size)})…`),
      );
      const uploaded = await call("POST", "/api/uploads", {
        body,
        type: "application/octet-stream",
        headers: { "X-Fnbuild-File-Name": safeFileName(fileName) },
        signal,
      });
      setChildren(feedback, h("p", {}, `Uploaded: ${fileName} (${formatSize(body.size)})`));
      showForm(uploaded);
    } catch (error) {
      if (!signal.aborted) setChildren(feedback, errorBox(error));
    }
  }

  /** @param {Upload} upload */
  function showForm(upload) {
    setChildren(output);
    if (upload.functions?.length) {
      setChildren(form, functionChoice(upload.functions));
      return;
    }
    setChildren(form, deployForm(upload, { signal, output }));
    form.querySelector("input")?.focus();
  }

  /** @param {Upload[]} functions */
  function functionChoice(functions) {
    return h(
      "section",
      { class: "card" },
      h("h2", {}, `${functions.length} functions found: select one`),
      h(
        "p",
        { class: "actions" },
        functions.map((fn) => button(fn.name || fn.path, () => showForm(fn))),
      ),
    );
  }
}

/**
 * Return a single file that the dashboard can read as it is, everything else as an archive.
 *
 * @param {string} name
 * @param {NamedFile[]} files
 * @returns {Promise<{body: Blob, fileName: string}>}
 */
async function packUpload(name, files) {
  const [first, ...more] = files;
  /** @param {NamedFile} file */
  const isSupported = ({ path }) => ARCHIVE.test(path) || SOURCE_FILE.test(path);
  if (!files.some(isSupported)) {
    const description = name || (more.length ? `${first.path} and ${more.length} more` : first.path);
    const hint = "choose a folder of a function, a zip or tar.gz of it, or a single .py file";
    throw new ApiError(0, { error: `${description}: neither Python code nor a function.yaml`, hint });
  }
  if (!more.length) return { body: first.file, fileName: first.file.name };
  return { body: await zip(files), fileName: `${name || "function"}.zip` };
}

/**
 * Return a file name with the characters that the dashboard accepts.
 *
 * @param {string} name
 */
function safeFileName(name) {
  return name
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9_.+-]/g, "_")
    .replace(/^[^A-Za-z0-9_]/, "_")
    .slice(-128);
}
