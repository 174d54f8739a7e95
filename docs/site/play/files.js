// @ts-check
// Large files: downloaded side by side, resumed where the connection broke, checked, kept in Cache Storage, and unpacked.

const CACHE = "inpainting-course-models", ATTEMPTS = 4, PAUSE = 400;  // milliseconds before the second attempt

const pause = (milliseconds) => new Promise((done) => setTimeout(done, milliseconds));

/** Cache Storage, or null where the browser has none: on an insecure page, or in some private windows. */
const storage = () => (globalThis.caches?.open(CACHE) ?? Promise.resolve(null)).catch(() => null);

async function unpacked(bytes) {
  if (bytes[0] !== 0x1f || bytes[1] !== 0x8b) return bytes;  // the host has already unpacked it
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

/** Whether these bytes are what was built; not asked where the page may not compute hashes. */
async function isWhole(bytes, hash) {
  if (!globalThis.crypto?.subtle) return true;
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return [...digest].map((byte) => byte.toString(16).padStart(2, "0")).join("").startsWith(hash);
}

export class Files {
  got = new Map();  // name -> { parts, bytes }: what has come of a file, kept when its download breaks

  /** list: name -> { file, bytes, hash }, as in models.json. */
  constructor(list, told) {
    this.list = list;
    this.told = told;
  }

  /** The unpacked bytes of these files. Throws an Error, in words for the page, where one cannot be had. */
  open(names) {
    const tell = () => this.told(sum(names.map((name) => this.got.get(name)?.bytes ?? 0)), sum(names.map((name) => this.list[name].bytes)));
    return Promise.all(names.map(async (name) => unpacked(await this.fetch(name, tell))));
  }

  async fetch(name, tell) {
    const { file, bytes, hash } = this.list[name], url = new URL(`models/${file}?${hash}`, import.meta.url).href;
    const cache = await storage(), kept = await cache?.match(url).catch(() => undefined);
    if (kept) {
      this.got.set(name, { parts: [], bytes });
      tell();
      return new Uint8Array(await kept.arrayBuffer());
    }
    const whole = await this.download(name, url, tell);
    if (whole[0] === 0x1f && !await isWhole(whole, hash)) {
      this.got.delete(name);
      throw new Error(`${file} arrived damaged. Try again.`);
    }
    for (const { url: old } of await cache?.keys() ?? []) {  // those of an earlier version of the site
      if (old.startsWith(url.split("?")[0])) await cache?.delete(old);
    }
    await cache?.put(url, new Response(whole)).catch(() => {});  // a full disk: it is downloaded again next time
    return whole;
  }

  async download(name, url, tell) {
    for (let attempt = 1; ; attempt++) {
      try {
        return await this.attempt(name, url, tell);
      } catch (error) {
        if (attempt === ATTEMPTS) {
          const { file, bytes } = this.list[name], share = Math.round((100 * (this.got.get(name)?.bytes ?? 0)) / bytes);
          throw new Error(`The download of ${file} broke off at ${share} % (${error.message}). Check the connection and try again: it resumes there.`);
        }
        await pause(PAUSE * 2 ** (attempt - 1));
      }
    }
  }

  /** Reads on from what has come. */
  async attempt(name, url, tell) {
    const before = this.got.get(name), { bytes } = this.list[name];
    if (before?.bytes === bytes) return joined(before.parts);
    const answer = await fetch(url, before ? { headers: { Range: `bytes=${before.bytes}-` } } : {});
    if (!answer.ok || !answer.body) throw new Error(`the server answers ${answer.status}`);
    const state = before && answer.status === 206 ? before : { parts: [], bytes: 0 }, packed = !answer.headers.get("Content-Encoding");
    if (packed) this.got.set(name, state);
    for (const reader = answer.body.getReader(); ;) {
      const { done, value } = await reader.read();
      if (done) break;
      state.parts.push(value);
      state.bytes += value.length;
      tell();
    }
    if (packed && state.bytes < bytes) throw new Error("the connection was closed");
    if (packed && state.bytes > bytes) this.got.delete(name);
    return joined(state.parts);
  }
}

const sum = (numbers) => numbers.reduce((one, other) => one + other, 0);

function joined(parts) {
  const whole = new Uint8Array(sum(parts.map(({ length }) => length)));
  let at = 0;
  for (const part of parts) { whole.set(part, at); at += part.length; }
  return whole;
}
