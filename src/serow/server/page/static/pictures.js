// Pictures that are dropped, pasted or chosen: kept as base64, as the API takes them.

import { fail, make } from "./dom.js";

const LARGEST = 20 << 20; // bytes of a file

export function toBase64(file) {
  return new Promise((resolve, reject) => {
    if (!file.type.startsWith("image/")) return reject(new Error(`${file.name} is no picture`));
    if (file.size > LARGEST) return reject(new Error(`${file.name} is larger than 20 MB`));
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error(`${file.name} can't be read`));
    reader.readAsDataURL(file);
  });
}

export const source = (base64) => `data:${typeOf(base64)};base64,${base64}`;

function typeOf(base64) {
  for (const [start, type] of [["iVBOR", "image/png"], ["/9j/", "image/jpeg"], ["R0lGOD", "image/gif"], ["UklGR", "image/webp"]]) {
    if (base64.startsWith(start)) return type;
  }
  return "image/png";
}

/** The pictures of a message that is being written. */
export class Attachments {
  constructor(most = 16) {
    this.most = most;
    this.images = [];
    this.element = make("div", { class: "attachments" });
  }

  /** Takes what is dropped on, or pasted into, an element. */
  receive(element) {
    element.addEventListener("dragover", (event) => event.preventDefault());
    element.addEventListener("drop", (event) => (event.preventDefault(), this.take(event.dataTransfer.files)));
    element.addEventListener("paste", (event) => event.clipboardData.files.length && (event.preventDefault(), this.take(event.clipboardData.files)));
  }

  /** A button that opens the file dialog. */
  button(label) {
    const input = make("input", { type: "file", accept: "image/*", multiple: this.most > 1, hidden: true, onchange: () => (this.take(input.files), (input.value = "")) });
    return make("span", {}, input, make("button", { type: "button", onclick: () => input.click() }, label));
  }

  async take(files) {
    for (const file of files) {
      try {
        this.add(await toBase64(file));
      } catch (error) {
        fail(error);
      }
    }
  }

  add(base64) {
    this.images = [...this.images, base64].slice(-this.most);
    this.show();
  }

  clear() {
    this.images = [];
    this.show();
  }

  show() {
    this.element.replaceChildren(...this.images.map((image, index) => make("button", { type: "button", title: "Take it away", "aria-label": `Take picture ${index + 1} away`,
      onclick: () => ((this.images = this.images.filter((_, other) => other !== index)), this.show()) }, make("img", { src: source(image), alt: `picture ${index + 1}` }))));
  }
}
