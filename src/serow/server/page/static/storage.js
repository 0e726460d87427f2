// Conversations and pictures stay in this browser: IndexedDB, two stores.

const NAME = "serow";
let opened = null;

function open() {
  opened ??= new Promise((resolve, reject) => {
    const request = indexedDB.open(NAME, 1);
    request.onupgradeneeded = () => {
      request.result.createObjectStore("conversations", { keyPath: "id" });
      request.result.createObjectStore("pictures", { keyPath: "id" });
    };
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(new Error("this browser keeps nothing for this page"));
  });
  return opened;
}

async function run(store, mode, work) {
  const transaction = (await open()).transaction(store, mode);
  const request = work(transaction.objectStore(store));
  return new Promise((resolve, reject) => {
    transaction.oncomplete = () => resolve(request.result);
    transaction.onabort = transaction.onerror = () => {
      const isFull = transaction.error?.name === "QuotaExceededError";
      reject(new Error(isFull ? "this browser's storage is full: export or delete something" : "this browser could not keep it"));
    };
  });
}

export const put = (store, value) => run(store, "readwrite", (each) => each.put(value));
export const remove = (store, id) => run(store, "readwrite", (each) => each.delete(id));
export const load = (store, id) => run(store, "readonly", (each) => each.get(id));
/** Puts what `work` makes of the value that is there, in one step: another tab can't come between. */
export const change = (store, id, work) =>
  run(store, "readwrite", (each) => {
    const found = each.get(id);
    found.onsuccess = () => each.put(work(found.result));
    return found;
  });
export const all = (store) => run(store, "readonly", (each) => each.getAll());

/** Keeps a small text; where nothing can be kept the page works without it. */
export function remember(name, text) {
  try {
    localStorage.setItem(name, text);
  } catch {
    // the storage is full or closed
  }
}

// Tabs tell each other what they have changed.
const channel = new BroadcastChannel(NAME);
export const tell = (store, id) => channel.postMessage({ store, id });
export const listen = (heard) => channel.addEventListener("message", (message) => heard(message.data));
