// What the page asks of the server: JSON, and streams of JSON lines. Paths are relative, so that a proxy may move the page.

const KEY = "serow-key"; // of sessionStorage: the tab's own

export const key = {
  get: () => sessionStorage.getItem(KEY) ?? "",
  set: (text) => (text ? sessionStorage.setItem(KEY, text) : sessionStorage.removeItem(KEY)),
};

/** An answer that is an error; `id` finds it in the server's log. */
export class ApiError extends Error {
  constructor(message, status, id) {
    super(message);
    this.status = status;
    this.id = id;
  }
}

async function send(method, path, body, { signal, headers = {} } = {}) {
  const own = key.get() ? { Authorization: `Bearer ${key.get()}` } : {};
  const isPlain = body !== undefined && !(body instanceof Blob);
  let answer;
  try {
    answer = await fetch(path, {
      method, signal, headers: { ...own, ...headers, ...(isPlain ? { "Content-Type": "application/json" } : {}) },
      body: isPlain ? JSON.stringify(body) : body,
    });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new ApiError("the server does not answer", 0);
  }
  if (!answer.ok) {
    const error = new ApiError(await reason(answer), answer.status, answer.headers.get("x-request-id") ?? "");
    error.offset = Number(answer.headers.get("upload-offset") ?? 0);
    if (answer.status === 401 || answer.status === 403) document.dispatchEvent(new CustomEvent("refused", { detail: error }));
    throw error;
  }
  return answer;
}

async function reason(answer) {
  const text = await answer.text();
  try {
    const { error } = JSON.parse(text);
    return typeof error === "string" ? error : error.message;
  } catch {
    return text.slice(0, 200) || `the server answers with status ${answer.status}`;
  }
}

export async function get(path) {
  return (await send("GET", path)).json();
}

export async function call(method, path, body, options) {
  const text = await (await send(method, path, body, options)).text();
  return text ? JSON.parse(text) : null;
}

/** How many bytes of a file of `size` bytes the server has; an upload goes on there. */
export async function received(path, size) {
  try {
    await send("HEAD", path);
    return size;
  } catch (error) {
    if (error.status === 404) return error.offset;
    throw error;
  }
}

export async function html(path, body) {
  return (await send("POST", path, body)).text();
}

/** Yields each line of a streamed answer, decoded; a line with `error` is thrown, and so is an end that came too early. */
export async function* lines(path, body, signal) {
  const answer = await send("POST", path, body, { signal });
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  let last = null;
  for (;;) {
    let piece;
    try {
      piece = await reader.read();
    } catch (error) {
      if (error.name === "AbortError") throw error;
      throw new ApiError("the connection was cut", 0);
    }
    if (piece.done) break;
    const parts = (rest + piece.value).split("\n");
    rest = parts.pop();
    for (const part of parts) {
      if (!part) continue;
      last = JSON.parse(part);
      if (last.error) throw new ApiError(last.error, answer.status, answer.headers.get("x-request-id") ?? "");
      yield last;
    }
  }
  if (rest) {
    last = JSON.parse(rest);
    if (last.error) throw new ApiError(last.error, answer.status, answer.headers.get("x-request-id") ?? "");
    yield last;
  }
  if (last && last.done !== true && last.status !== "success") throw new ApiError("the connection was cut", 0);
}
