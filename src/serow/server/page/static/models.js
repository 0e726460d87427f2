// The view "Models": what the store has; pull, create, copy, delete, load and unload.

import { call, get, lines } from "./api.js";
import { ago, ask, bytes, fail, field, make, notice } from "./dom.js";
import { createFrom } from "./upload.js";

class ModelsView extends HTMLElement {
  async connectedCallback() {
    this.rows = make("tbody");
    this.jobs = make("div", { class: "jobs", "aria-live": "polite" });
    this.detail = make("dialog", { class: "wide", "aria-label": "Model" });
    const name = make("input", { required: true, placeholder: "smollm2:135m", "aria-label": "Model to fetch" });
    const file = make("input", { type: "file", accept: ".gguf", required: true, "aria-label": "GGUF file" });
    const own = make("input", { required: true, placeholder: "mine", "aria-label": "Name of the new model" });
    file.onchange = () => (own.value ||= file.files[0]?.name.replace(/\.gguf$/i, "").toLowerCase().replace(/[^a-z0-9._-]+/g, "-") ?? "");
    this.append(
      make("form", { class: "panel row", onsubmit: (event) => (event.preventDefault(), this.pull(name.value.trim())) }, field("Fetch a model", name), make("button", { class: "primary" }, "Pull")),
      make("form", { class: "panel row", onsubmit: (event) => (event.preventDefault(), this.create(file.files[0], own.value.trim())) }, field("Make a model of a file", file), field("Name", own), make("button", {}, "Create")),
      this.jobs,
      make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Models" }, make("table", { role: "table" }, make("thead", {}, make("tr", {}, ...["Name", "Size", "Parameters", "Can", "Changed", ""].map((each) => make("th", { scope: "col", role: "columnheader" }, each || make("span", { class: "hidden" }, "Actions"))))), this.rows)),
      this.detail);
    await this.show().catch(fail);
  }

  disconnectedCallback() {
    for (const job of this.jobs.children) job.abort?.abort();
  }

  async show() {
    const [{ models }, { models: loaded }] = await Promise.all([get("api/tags"), get("api/ps")]);
    const inMemory = new Set(loaded.map(({ name }) => name));
    this.rows.replaceChildren(...models.map((model) => this.row(model, inMemory.has(model.name))));
    if (!models.length) this.rows.append(make("tr", {}, make("td", { colSpan: 6, class: "quiet" }, "no model is here yet")));
  }

  row({ name, size, details, capabilities = [], modified_at }, isLoaded) {
    const act = (label, work) => make("button", { type: "button", "aria-label": `${label} ${name}`, onclick: () => work().catch(fail) }, label);
    const cell = (...children) => make("td", { role: "cell" }, ...children);
    return make("tr", { role: "row" }, make("th", { scope: "row", role: "rowheader" }, name, isLoaded && make("span", { class: "tag" }, "in memory")), cell(bytes(size)),
      cell(`${details.parameter_size} ${details.quantization_level}`.trim()), cell(capabilities.join(", ")), cell(ago(modified_at)),
      cell(make("div", { class: "row" }, act("Show", () => this.describe(name)), act(isLoaded ? "Unload" : "Load", () => this.load(name, capabilities, !isLoaded)), act("Copy", () => this.copy(name)), act("Delete", () => this.delete(name)))));
  }

  async describe(model) {
    const shown = await call("POST", "api/show", { model });
    const part = (title, text) => text && make("section", {}, make("h3", {}, title), make("pre", { tabIndex: 0 }, text));
    const info = Object.entries(shown.model_info ?? {}).filter(([, value]) => typeof value !== "object").map(([name, value]) => `${name}  ${value}`).join("\n");
    this.detail.replaceChildren(make("form", { method: "dialog" }, make("h2", {}, model), part("Parameters", shown.parameters), part("System", shown.system), part("Template", shown.template), part("Modelfile", shown.modelfile), part("File", info), part("License", shown.license?.slice(0, 4000)), make("menu", {}, make("button", { class: "primary" }, "Close"))));
    this.detail.showModal();
  }

  async load(model, capabilities, isWanted) {
    const path = capabilities.includes("embedding") ? "api/embed" : "api/generate";
    notice(isWanted ? `loading ${model}` : `unloading ${model}`);
    await call("POST", path, { model, stream: false, ...(isWanted ? {} : { keep_alive: 0 }) });
    await this.show();
  }

  async copy(source) {
    const input = make("input", { required: true, value: `${source.split(":")[0]}-copy` });
    const dialog = make("dialog", { "aria-label": "Copy" }, make("form", { method: "dialog" }, make("h2", {}, `Copy ${source}`), field("Name of the copy", input), make("menu", {}, make("button", { value: "", formNoValidate: true }, "Cancel"), make("button", { value: "copy", class: "primary" }, "Copy"))));
    this.append(dialog);
    dialog.showModal();
    await new Promise((resolve) => dialog.addEventListener("close", resolve));
    dialog.remove();
    if (dialog.returnValue !== "copy") return;
    await call("POST", "api/copy", { source, destination: input.value.trim() });
    await this.show();
  }

  async delete(model) {
    if ((await ask("Delete", `${model} is deleted from the server, for everybody.`, "Delete")) !== "Delete") return;
    if ((await ask("Delete", `Really delete ${model}? It has to be fetched or made again.`, "Delete it")) !== "Delete it") return;
    await call("DELETE", "api/delete", { model });
    await this.show();
  }

  /** A line with a bar for work that takes its time; `work(tell, signal)`. */
  async job(title, work) {
    const bar = make("progress", { "aria-label": title });
    const words = make("span", {}, "starting");
    const line = make("div", { class: "job" }, make("b", {}, title), bar, words);
    const abort = new AbortController();
    line.abort = abort;
    const stop = make("button", { type: "button", onclick: () => abort.abort() }, "Stop");
    line.append(stop);
    this.jobs.append(line);
    const tell = (status, completed, total) => {
      words.textContent = total > 1 ? `${status} ${bytes(completed ?? 0)} of ${bytes(total)}` : status;
      if (total) Object.assign(bar, { max: total, value: completed ?? 0 });
      else bar.removeAttribute("value");
    };
    try {
      await work(tell, abort.signal);
      line.remove();
      notice(`${title}: done`);
      await this.show();
    } catch (error) {
      words.textContent = error.name === "AbortError" ? "stopped; what has come is kept" : error.message;
      bar.remove();
      stop.replaceWith(make("button", { type: "button", onclick: () => (line.remove(), this.job(title, work)) }, "Go on"), make("button", { type: "button", onclick: () => line.remove() }, "Close"));
    }
  }

  pull(model) {
    this.job(model, async (tell, signal) => {
      for await (const { status, completed, total } of lines("api/pull", { model }, signal)) tell(status, completed, total);
    });
  }

  create(file, name) {
    this.job(name, (tell, signal) => createFrom(file, name, tell, signal));
  }
}

customElements.define("models-view", ModelsView);
export default () => make("models-view");
