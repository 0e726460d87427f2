// A model file of the user's: hashed in the browser, sent in parts where the server lacks them, made into a model.

import { call, received } from "./api.js";
import { remember } from "./storage.js";

const PART = 8 << 20; // bytes sent at once: what is sent again at most when an upload breaks off
const TRIES = 5; // while the server has not noticed yet that a part broke off
const PAUSE = 500; // ms

/** The SHA-256 of a file, as hex; `tell` hears of bytes done. */
function hash(file, tell, signal) {
  return new Promise((resolve, reject) => {
    const worker = new Worker(new URL("sha256.js", import.meta.url));
    const end = (settle, value) => (worker.terminate(), settle(value));
    signal.addEventListener("abort", () => end(reject, signal.reason));
    worker.onerror = () => end(reject, new Error(`${file.name} can't be read`));
    worker.onmessage = ({ data }) => (data.digest ? end(resolve, data.digest) : tell(data.completed));
    worker.postMessage(file);
  });
}

// A file that was hashed is not hashed again when its upload broke off, also after a reload: then it is chosen again.
const remembered = (file) => `serow-digest ${file.size} ${file.lastModified} ${file.name}`;

async function digestOf(file, tell, signal) {
  const known = localStorage.getItem(remembered(file));
  if (known) return known;
  tell("reading", 0, file.size);
  const digest = await hash(file, (completed) => tell("reading", completed, file.size), signal);
  remember(remembered(file), digest);
  return digest;
}

async function send(file, path, tell, signal) {
  let left = TRIES;
  let start = await received(path, file.size);
  while (start < file.size) {
    tell("sending", start, file.size);
    const end = Math.min(start + PART, file.size);
    const headers = { "Content-Range": `bytes ${start}-${end - 1}/${file.size}` };
    try {
      await call("POST", path, file.slice(start, end), { signal, headers });
      start = end;
    } catch (error) {
      if (error.status !== 409 || !left--) throw error;
      await new Promise((resolve) => setTimeout(resolve, PAUSE));
      start = await received(path, file.size);
    }
  }
}

/** Makes a model of a file; `tell(status, completed, total)` hears of each step. */
export async function createFrom(file, name, tell, signal) {
  const digest = await digestOf(file, tell, signal);
  try {
    await send(file, `api/blobs/sha256:${digest}`, tell, signal);
  } catch (error) {
    if (error.status === 400) localStorage.removeItem(remembered(file)); // it has changed since it was hashed
    throw error;
  }
  tell("making the model");
  await call("POST", "api/create", { model: name, files: { [file.name]: `sha256:${digest}` }, stream: false }, { signal });
  localStorage.removeItem(remembered(file));
  tell("done", 1, 1);
}
