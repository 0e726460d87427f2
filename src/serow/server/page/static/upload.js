// A model file of the user's: hashed in the browser, sent where the server lacks it, made into a model.

import { call, has } from "./api.js";

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

const digests = new WeakMap(); // a file that was hashed is not hashed again when its upload broke off

/** Makes a model of a file; `tell(status, completed, total)` hears of each step. */
export async function createFrom(file, name, tell, signal) {
  tell("reading", 0, file.size);
  const digest = digests.get(file) ?? (await hash(file, (completed) => tell("reading", completed, file.size), signal));
  digests.set(file, digest);
  const path = `api/blobs/sha256:${digest}`;
  if (!(await has(path))) {
    tell("sending");
    await call("POST", path, file, { signal });
  }
  tell("making the model");
  await call("POST", "api/create", { model: name, files: { [file.name]: `sha256:${digest}` }, stream: false }, { signal });
  tell("done", 1, 1);
}
