/**
 * Requests to the daemon. The publisher key is in this module's memory, and nowhere else.
 *
 * @module
 */

const TIMEOUT_MS = 10_000;
const KEY = /^[\x21-\x7e]{16,}$/;

let key = null;

/** The daemon does not take the key. */
export class KeyRefused extends Error {}

/** Something else did not work; the message is for the operator. */
export class Trouble extends Error {}

export const hasKey = () => key !== null;

/**
 * Use this key from now on.
 *
 * @throws {KeyRefused} If no publisher key looks like that.
 */
export function useKey(text) {
  const given = text.trim();
  if (!KEY.test(given)) {
    throw new KeyRefused("That can't be it: a publisher key has at least 16 characters, printable ASCII without spaces.");
  }
  key = given;
}

export function forgetKey() {
  key = null;
}

/** Ask the console's API: ask("devices", { user }). */
export async function ask(what, query = {}) {
  const response = await request(`console/api/${what}?${new URLSearchParams(query)}`, {
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  return read(response);
}

/** Post to the API that publishers use. */
export async function post(path, body) {
  const response = await request(path, {
    method: "POST",
    headers: { "Content-Type": "application/json" },
    body: JSON.stringify(body),
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  return read(response);
}

/** Open the stream of a user's events; each of its lines is handed to `take`, parsed. Returns when it ends. */
export async function watch(query, signal, take) {
  const response = await request(`console/api/watch?${new URLSearchParams(query)}`, { signal });
  if (!response.ok) await read(response);
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  let rest = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    const lines = (rest + value).split("\n");
    rest = lines.pop();
    for (const line of lines) take(JSON.parse(line));
  }
}

async function request(path, options) {
  const headers = { ...options.headers, Authorization: `Bearer ${key}` };
  try {
    return await fetch(path, { ...options, headers, cache: "no-store", credentials: "omit", redirect: "error" });
  } catch (error) {
    if (error.name === "AbortError") throw error;
    if (error.name === "TimeoutError") throw new Trouble("The daemon doesn't answer.");
    throw new Trouble("The daemon can't be reached.");
  }
}

async function read(response) {
  let body = null;
  try {
    body = await response.json();
  } catch {
    throw new Trouble(`What answers with HTTP ${response.status} is not the daemon.`);
  }
  if (response.status === 401) throw new KeyRefused("The daemon does not take this key.");
  if (!response.ok) throw new Trouble(body?.message ?? `The daemon answers with HTTP ${response.status}.`);
  return body;
}
