// The view "Now": what is in memory, who waits, how fast it goes, what went wrong. It asks only while somebody looks.

import { get } from "./api.js";
import { ago, bytes, fail, make } from "./dom.js";

const PAUSE = 2000; // ms
const MINUTES = 10;

class NowView extends HTMLElement {
  connectedCallback() {
    this.models = make("tbody");
    this.words = make("p", {});
    this.chart = make("div", { class: "chart" });
    this.errors = make("ul", { class: "errors" });
    const heads = ["Model", "Engine", "Device", "Memory", "Context", "Running", "Waiting", "Until"];
    this.append(this.words, make("h2", {}, "In memory"),
      make("div", { class: "scroll", tabIndex: 0, role: "region", "aria-label": "Models in memory" }, make("table", {}, make("thead", {}, make("tr", {}, ...heads.map((each) => make("th", { scope: "col" }, each)))), this.models)),
      make("h2", {}, `Tokens a second, last ${MINUTES} minutes`), this.chart, make("h2", {}, "Errors of the last hour"), this.errors);
    this.look();
  }

  disconnectedCallback() {
    clearTimeout(this.timer);
  }

  async look() {
    if (!document.hidden) {
      try {
        const [ps, now] = await Promise.all([get("api/ps?verbose=1"), get("page/api/now")]);
        this.show(ps, now);
        this.hasFailed = false;
      } catch (error) {
        if (!this.hasFailed) fail(error);
        this.hasFailed = true;
        this.words.textContent = "the server does not answer; this page tries again";
      }
    }
    if (this.isConnected) this.timer = setTimeout(() => this.look(), PAUSE);
  }

  show({ models, num_waiting, max_queue }, { rates, errors, memory }) {
    this.words.textContent = `${num_waiting} of at most ${max_queue} requests wait · memory ${bytes(memory.available)} free of ${bytes(memory.total)}`;
    this.models.replaceChildren(...models.map((each) => make("tr", {}, make("th", { scope: "row" }, each.name), ...[each.engine, device(each), bytes(each.size), each.context_length || "", `${each.num_running} of ${each.num_parallel}`, each.num_waiting, ago(each.expires_at)].map((cell) => make("td", {}, `${cell}`)))));
    if (!models.length) this.models.append(make("tr", {}, make("td", { colSpan: 8, class: "quiet" }, "no model is in memory")));
    this.chart.replaceChildren(draw(rates));
    this.errors.replaceChildren(...errors.map(({ at, status, route, error, id }) => make("li", {}, make("b", {}, `${status} ${route}`), ` ${error} `, make("span", { class: "quiet" }, `${ago(at)} · request ${id}`))));
    if (!errors.length) this.errors.append(make("li", { class: "quiet" }, "none"));
  }
}

function device({ size, size_vram }) {
  if (!size_vram) return "CPU";
  return size_vram >= size ? "GPU" : `${Math.round((100 * size_vram) / size)} % GPU`;
}

/** A chart of rates, the oldest first: as wide as its place, its words beside it. */
function draw(rates) {
  const most = Math.max(10, ...rates);
  const [width, height] = [600, 120];
  const points = rates.map((rate, index) => `${((index * width) / Math.max(1, rates.length - 1)).toFixed(1)},${(height - (rate / most) * height).toFixed(1)}`);
  const said = `tokens a second: now ${Math.round(rates.at(-1) ?? 0)}, at most ${Math.round(Math.max(0, ...rates))}`;
  const picture = shape("svg", { viewBox: `0 0 ${width} ${height}`, preserveAspectRatio: "none", role: "img", "aria-label": said });
  picture.append(shape("path", { d: `M0,${height} L${points.join(" L")} L${width},${height}Z`, class: "area" }), shape("path", { d: `M${points.join(" L")}`, class: "line" }));
  const words = make("div", { class: "row quiet", "aria-hidden": "true" }, make("span", {}, `${MINUTES} min ago`), make("span", { class: "grow" }), make("span", {}, "now"));
  return make("div", {}, make("small", { "aria-hidden": "true" }, `${Math.round(most)}`), picture, words);
}

function shape(name, attributes) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  return element;
}

customElements.define("now-view", NowView);
export default () => make("now-view");
