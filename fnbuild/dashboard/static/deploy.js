// The view `#/deploy`: code from a drop or from the library, then what is to be made of it.

import { call, Refused } from "./api.js";
import { chosen, dropped, zip } from "./archive.js";
import { fill, h, put } from "./dom.js";
import { placing } from "./placing.js";
import { drawShelf } from "./shelf.js";
import { problem } from "./states.js";

const ARCHIVE = /\.(zip|tar|tgz|tbz2|txz|tar\.(gz|bz2|xz))$/i;
const ALONE = /\.(py|ya?ml)$/i;
const LIMIT = 512 * 1024 * 1024;

export function show(root, _params, { title, signal }) {
  title("Deploy");
  const source = h("div", { class: "columns" });
  const form = h("div");
  const under = h("div", { class: "stack" });
  put(root, h("h1", {}, "Deploy a function"), source, form, under);
  const said = h("div", { role: "status" });
  const shelf = h("section", { class: "card", "aria-labelledby": "library" });
  put(source, dropZone(), shelf);
  drawShelf(shelf, { signal, take: settle });

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
      said,
    );
    zone.addEventListener("dragover", (event) => {
      event.preventDefault();
      zone.classList.add("over");
    });
    zone.addEventListener("dragleave", () => zone.classList.remove("over"));
    zone.addEventListener("drop", async (event) => {
      event.preventDefault();
      zone.classList.remove("over");
      took(await dropped(event.dataTransfer));
    });
    return zone;
  }

  // The same files may be chosen again, when they have been mended.
  function take(input) {
    took(chosen(input.files));
    input.value = "";
  }

  async function took({ name, files }) {
    if (!files.length) return;
    fill(form);
    fill(under);
    try {
      const { body, fileName } = await packed(name, files);
      if (body.size > LIMIT) throw new Error(`${fileName} has ${size(body.size)}; 512 MiB is the most`);
      fill(said, h("p", { class: "waiting" }, `Uploading ${fileName} (${size(body.size)})…`));
      const answer = await call("POST", "/api/uploads", {
        body,
        type: "application/octet-stream",
        headers: { "X-Fnbuild-File-Name": plain(fileName) },
        signal,
      });
      fill(said, h("p", {}, `Uploaded: ${fileName} (${size(body.size)})`));
      settle(answer);
    } catch (error) {
      if (!signal.aborted) fill(said, problem(error));
    }
  }

  function settle(found) {
    fill(under);
    if (found.functions?.length) return fill(form, several(found.functions));
    fill(form, placing(found, { signal, under }));
    form.querySelector("input").focus();
  }

  function several(functions) {
    return h(
      "section",
      { class: "card" },
      h("h2", {}, `${functions.length} functions are in it: which one?`),
      h(
        "p",
        { class: "actions" },
        functions.map((one) =>
          h("button", { type: "button", onclick: () => settle(one) }, one.name || one.path),
        ),
      ),
    );
  }
}

/** One file that the dashboard can read goes as it is, everything else as an archive. */
async function packed(name, files) {
  const [first, ...more] = files;
  const fits = ({ path }) => ARCHIVE.test(path) || ALONE.test(path);
  if (!files.some(fits)) {
    const these = name || (more.length ? `${first.path} and ${more.length} more` : first.path);
    const hint = "choose a folder of a function, a zip or tar.gz of it, or a single .py file";
    throw new Refused(0, { error: `${these}: neither Python code nor a function.yaml`, hint });
  }
  if (!more.length) return { body: first.file, fileName: first.file.name };
  return { body: await zip(files), fileName: `${name || "function"}.zip` };
}

/** A file name of the letters that the dashboard takes. */
function plain(name) {
  return name
    .normalize("NFKD")
    .replace(/[^A-Za-z0-9_.+-]/g, "_")
    .replace(/^[^A-Za-z0-9_]/, "_")
    .slice(-128);
}

function size(bytes) {
  if (bytes < 1024) return `${bytes} bytes`;
  return bytes < 1024 ** 2 ? `${(bytes / 1024).toFixed(1)} KiB` : `${(bytes / 1024 ** 2).toFixed(1)} MiB`;
}
