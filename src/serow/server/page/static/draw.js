// The view "Draw": pictures by the server's image models, and a gallery of those that this browser has kept.

import { get, lines } from "./api.js";
import { ask, fail, field, make, notice, seconds } from "./dom.js";
import { Attachments, source } from "./pictures.js";
import { all, listen, put, remove, tell } from "./storage.js";

const NUMBERS = ["width", "height", "steps", "seed", "guidance"];
const REQUEST_FIELDS = ["width", "height", "steps"]; // the others are options

class DrawView extends HTMLElement {
  async connectedCallback() {
    this.start = new Attachments(1);
    this.model = make("select", {});
    this.prompt = make("textarea", { rows: 3, required: true });
    this.negative = make("input", {});
    this.numbers = Object.fromEntries(NUMBERS.map((name) => [name, make("input", { inputmode: "decimal", placeholder: "the model's" })]));
    this.progress = make("progress", { hidden: true, "aria-label": "Steps" });
    this.said = make("p", { class: "quiet", "aria-live": "polite" });
    this.canvas = make("div", { class: "canvas" });
    this.gallery = make("ul", { class: "gallery" });
    this.draw = make("button", { class: "primary" }, "Draw");
    this.stop = make("button", { type: "button", hidden: true, onclick: () => this.abort?.abort() }, "Stop");
    this.append(make("form", { class: "panel", onsubmit: (event) => (event.preventDefault(), this.submit().catch(fail)) },
      field("Model", this.model), field("Prompt", this.prompt), field("Negative prompt", this.negative),
      make("div", { class: "grid" }, ...NUMBERS.map((name) => field(name, this.numbers[name]))),
      make("div", { class: "row" }, this.start.button("Start from a picture"), this.start.element, make("span", { class: "grow" }), this.stop, this.draw),
      this.progress, this.said), this.canvas, make("section", {}, make("h2", {}, "Gallery"), this.gallery));
    this.start.receive(this);
    listen(({ store }) => store === "pictures" && this.show());
    await Promise.all([this.showModels(), this.show()]).catch(fail);
  }

  disconnectedCallback() {
    this.abort?.abort();
  }

  async showModels() {
    const { models } = await get("api/tags");
    const usable = models.filter(({ capabilities = [] }) => capabilities.includes("image"));
    this.model.replaceChildren(...usable.map(({ name }) => make("option", {}, name)));
    this.draw.disabled = !usable.length;
    if (!usable.length) this.said.textContent = "No model that draws is here: serow create NAME from a folder of diffusers.";
  }

  request() {
    const body = { model: this.model.value, prompt: this.prompt.value, images: this.start.images, options: {} };
    for (const name of NUMBERS) {
      const text = this.numbers[name].value.trim();
      if (!text) continue;
      if (Number.isNaN(Number(text))) throw new Error(`${name} must be a number`);
      (REQUEST_FIELDS.includes(name) ? body : body.options)[name] = Number(text);
    }
    if (this.negative.value) body.options.negative_prompt = this.negative.value;
    body.options.seed ??= Math.floor(Math.random() * 2 ** 31);
    body.options.preview = 1;
    return body;
  }

  async submit() {
    if (this.abort) return;
    const body = this.request();
    this.abort = new AbortController();
    this.working(true);
    try {
      for await (const record of lines("api/generate", body, this.abort.signal)) await this.take(record, body);
    } catch (error) {
      this.said.textContent = error.name === "AbortError" ? "stopped" : "";
      fail(error);
    }
    this.abort = null;
    this.working(false);
  }

  working(isWorking) {
    this.progress.hidden = this.stop.hidden = !isWorking;
    this.draw.hidden = isWorking;
    this.progress.removeAttribute("value");
    if (isWorking) this.said.textContent = "waiting for the model";
  }

  async take({ completed, total, image, preview, done, warnings = [], total_duration }, body) {
    if (total) Object.assign(this.progress, { max: total, value: completed });
    if (total && !done) this.said.textContent = `step ${completed} of ${total}`;
    if (preview || image) this.canvas.replaceChildren(make("img", { src: source(image ?? preview), alt: body.prompt }));
    if (!done) return;
    this.said.textContent = [`drawn in ${seconds(total_duration)}`, ...warnings].join(" · ");
    const { images, ...parameters } = body;
    delete parameters.options.preview;
    const id = `${Date.now()}-${body.options.seed}`;
    await put("pictures", { id, image, created: Date.now(), parameters: { ...parameters, fromPicture: images.length > 0 } }).catch(fail);
    tell("pictures", id);
    await this.show();
  }

  async show() {
    const pictures = (await all("pictures")).sort((a, b) => b.created - a.created);
    this.gallery.replaceChildren(...pictures.map((picture) => this.item(picture)));
  }

  item({ id, image, parameters }) {
    const { prompt, model, options, fromPicture, ...sizes } = parameters;
    const words = [model, ...Object.entries({ ...sizes, ...options }).map(([name, value]) => `${name} ${value}`), ...(fromPicture ? ["from a picture"] : [])].join(" · ");
    const erase = async () => {
      if ((await ask("Delete", "This picture is deleted from this browser.", "Delete")) !== "Delete") return;
      await remove("pictures", id);
      tell("pictures", id);
      await this.show();
    };
    return make("li", {}, make("img", { src: source(image), alt: prompt, loading: "lazy" }), make("p", {}, prompt), make("p", { class: "quiet" }, words),
      make("div", { class: "row" }, make("a", { class: "button", href: source(image), download: `${id}.png` }, "Save"),
        make("button", { type: "button", onclick: () => this.reuse(parameters) }, "Again"),
        make("button", { type: "button", onclick: () => (this.start.add(image), notice("the next picture starts from this one")) }, "Start from it"),
        make("button", { type: "button", onclick: () => erase().catch(fail) }, "Delete")));
  }

  reuse({ model, prompt, options, ...sizes }) {
    this.model.value = model;
    this.prompt.value = prompt;
    this.negative.value = options.negative_prompt ?? "";
    for (const name of NUMBERS) this.numbers[name].value = sizes[name] ?? options[name] ?? "";
    this.prompt.focus();
  }
}

customElements.define("draw-view", DrawView);
export default () => make("draw-view");
