// The view `#/deploy`: code from a drop or from the library, then what is to be made of it.

import { call, ApiError } from "./api.js";
import { chosenFiles, droppedFiles, zip } from "./archive.js";
import { setChildren, h, append } from "./dom.js";
import { deployForm } from "./deploy_form.js";
import { showLibrary } from "./library.js";
import { errorBox } from "./states.js";

const ARCHIVE = /\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$/i;
const SOURCE_FILE = /\.(py|ya?ml)$/i;
const UPLOAD_LIMIT = 512 * 1024 * 1024;

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
    const files = h("input", {
      type: "file",
      multiple: true,
      class: "unseen",
      id: "files",
      onchange: () => take(files),
    });
    const folder = h("input", {
      type: "file",
      webkitdirectory: true,
      class: "unseen",
      id: "folder",
      onchange: () => take(folder),
    });
    const zone = h(
      "section",
      { class: "card drop", "aria-labelledby": "upload" },
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
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", async (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      uploadFiles(await droppedFiles(event.dataTransfer));
    });
    return zone;
  }

  // The same files may be chosen again, when they have been mended.
  function take(input) {
    uploadFiles(chosenFiles(input.files));
    input.value = "";
  }

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

  function showForm(upload) {
    setChildren(output);
    if (upload.functions?.length) return setChildren(form, chooseFunction(upload.functions));
    setChildren(form, deployForm(upload, { signal, output }));
    form.querySelector("input").focus();
  }

  function chooseFunction(functions) {
    return h(
      "section",
      { class: "card" },
      h("h2", {}, `${functions.length} functions are in it: which one?`),
      h(
        "p",
        { class: "actions" },
        functions.map((fn) =>
          h("button", { type: "button", onclick: () => showForm(fn) }, fn.name || fn.path),
        ),
      ),
    );
  }
}

/** One file that the dashboard can read goes as it is, everything else as an archive. */
async function packUpload(name, files) {
  const [first, ...more] = files;
  const isSupported = ({ path }) => ARCHIVE.test(path) || SOURCE_FILE.test(path);
  if (!files.some(isSupported)) {
    const description = name || (more.length ? `${first.path} and ${more.length} more` : first.path);
    const hint = "choose a folder of a function, a zip or tar.gz of it, or a single .py file";
    throw new ApiError(0, { error: `${description}: neither Python code nor a function.yaml`, hint });
  }
  if (!more.length) return { body: first.file, fileName: first.file.name };
  return { body: await zip(files), fileName: `${name || "function"}.zip` };
}

/** A file name of the letters that the dashboard takes. */
function safeFileName(name) {
  return name
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9_.+-]/g, "_")
    .replace(/^[^A-Za-z0-9_]/, "_")
    .slice(-128);
}

function formatSize(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}
