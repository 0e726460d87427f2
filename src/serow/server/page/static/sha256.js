// SHA-256 of a file of any size, piece by piece, in a worker (FIPS 180-4). crypto.subtle can't do it in pieces, nor on plain HTTP.

const PIECE = 4 << 20; // bytes read at once
const PRIMES = [];
for (let number = 2; PRIMES.length < 64; number++) if (PRIMES.every((prime) => number % prime)) PRIMES.push(number);
const fraction = (value) => ((value - Math.floor(value)) * 2 ** 32) | 0;
const K = Int32Array.from(PRIMES, (prime) => fraction(Math.cbrt(prime)));
const state = Int32Array.from(PRIMES.slice(0, 8), (prime) => fraction(Math.sqrt(prime)));
const words = new Int32Array(64);

function block(view, offset) {
  for (let t = 0; t < 16; t++) words[t] = view.getInt32(offset + 4 * t);
  for (let t = 16; t < 64; t++) {
    const x = words[t - 15];
    const y = words[t - 2];
    const s0 = ((x >>> 7) | (x << 25)) ^ ((x >>> 18) | (x << 14)) ^ (x >>> 3);
    const s1 = ((y >>> 17) | (y << 15)) ^ ((y >>> 19) | (y << 13)) ^ (y >>> 10);
    words[t] = (words[t - 16] + s0 + words[t - 7] + s1) | 0;
  }
  let [a, b, c, d, e, f, g, h] = state;
  for (let t = 0; t < 64; t++) {
    const s1 = ((e >>> 6) | (e << 26)) ^ ((e >>> 11) | (e << 21)) ^ ((e >>> 25) | (e << 7));
    const t1 = (h + s1 + ((e & f) ^ (~e & g)) + K[t] + words[t]) | 0;
    const s0 = ((a >>> 2) | (a << 30)) ^ ((a >>> 13) | (a << 19)) ^ ((a >>> 22) | (a << 10));
    const t2 = (s0 + ((a & b) ^ (a & c) ^ (b & c))) | 0;
    [h, g, f, e, d, c, b, a] = [g, f, e, (d + t1) | 0, c, b, a, (t1 + t2) | 0];
  }
  [a, b, c, d, e, f, g, h].forEach((value, index) => (state[index] = (state[index] + value) | 0));
}

function blocks(buffer) {
  const view = new DataView(buffer);
  for (let offset = 0; offset < buffer.byteLength; offset += 64) block(view, offset);
}

function padded(rest, size) {
  const padding = new Uint8Array(rest.byteLength + 9 + ((119 - rest.byteLength) % 64));
  padding.set(new Uint8Array(rest));
  padding[rest.byteLength] = 0x80;
  new DataView(padding.buffer).setBigUint64(padding.length - 8, BigInt(size) * 8n);
  return padding.buffer;
}

onmessage = async ({ data: file }) => {
  const whole = file.size - (file.size % 64);
  for (let start = 0; start < whole; start += PIECE) {
    blocks(await file.slice(start, Math.min(start + PIECE, whole)).arrayBuffer());
    postMessage({ completed: Math.min(start + PIECE, whole) });
  }
  blocks(padded(await file.slice(whole).arrayBuffer(), file.size));
  postMessage({ digest: Array.from(state, (word) => (word >>> 0).toString(16).padStart(8, "0")).join("") });
};
