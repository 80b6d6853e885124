/**
 * The backend's HTTP API, as one login sees it: it keeps the tokens, and renews them.
 *
 * @module
 */

/** The backend said no, or nothing. */
export class ApiError extends Error {
  constructor(status, identifier, message) {
    super(message);
    this.name = "ApiError";
    this.status = status;
    this.identifier = identifier;
  }
}

/** A token that lasts no longer than this is renewed before it is used, in seconds. */
const SPARE_SECONDS = 5;

/** How long the backend may take to answer, in milliseconds. */
const PATIENCE = 15_000;

/** Send a request, and give the JSON that comes back. */
export async function request(method, path, body, token) {
  let response;
  try {
    response = await fetch(path, {
      method,
      headers: {
        ...(body === undefined ? {} : { "Content-Type": "application/json" }),
        ...(token === undefined ? {} : { Authorization: `Bearer ${token}` }),
      },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: AbortSignal.timeout(PATIENCE),
    });
  } catch {
    throw new ApiError(0, "no-answer", "The backend does not answer. Is the demo still running?");
  }
  const text = await response.text();
  let content = null;
  try {
    content = text === "" ? null : JSON.parse(text);
  } catch {
    throw new ApiError(response.status, "no-json", "What answered is not the backend of this demo.");
  }
  if (!response.ok) throw new ApiError(response.status, content?.identifier ?? "", content?.message ?? response.statusText);
  return content;
}

export class Api {
  #tokens = null;
  #refreshing = null;
  #note;

  /** @param {(text: string) => void} note Called with each request and its answer. No body: it may hold a password. */
  constructor(note) {
    this.#note = note;
    /** Whether tokens are renewed. */
    this.renews = true;
    /** Whether there is a network. */
    this.online = true;
  }

  /** When the access token expires, in Unix seconds; null while logged out. */
  get expiresAt() {
    return this.#tokens?.accessExpiresAt ?? null;
  }

  /** How long the access token is good from now on, in seconds; negative once it has expired. */
  get remaining() {
    return this.#tokens === null ? -Infinity : this.#tokens.accessExpiresAt - Date.now() / 1000;
  }

  /** Log in; gives the user and the token group. */
  async logIn(email, password) {
    const { user, group, tokens } = await this.#send("POST", "/v1/auth/login", { email, password });
    this.#tokens = tokens;
    return { user, group };
  }

  /** Log out: the whole token group is refused from then on. */
  async logOut() {
    await this.#send("POST", "/v1/auth/logout", { refreshToken: this.#tokens.refreshToken });
  }

  /** An access token that is good for `seconds` at least, the one at hand if it is. */
  async token(seconds) {
    if (this.remaining < seconds && this.renews) await this.refresh();
    return this.#tokens.accessToken;
  }

  /** Get new tokens. */
  refresh() {
    // A refresh token is good once: whoever else wants new ones gets the same.
    this.#refreshing ??= this.#send("POST", "/v1/auth/refresh", { refreshToken: this.#tokens.refreshToken })
      .then((tokens) => {
        this.#tokens = tokens;
      })
      .finally(() => {
        this.#refreshing = null;
      });
    return this.#refreshing;
  }

  /** Send a request with the access token. */
  async call(method, path, body) {
    return this.#send(method, path, body, await this.token(SPARE_SECONDS));
  }

  async #send(method, path, body, token) {
    if (!this.online) throw new ApiError(0, "offline", "This device is offline.");
    const started = performance.now();
    const note = (outcome) => this.#note(`${method} ${path} → ${outcome}, ${Math.round(performance.now() - started)} ms`);
    try {
      const content = await request(method, path, body, token);
      note("done");
      return content;
    } catch (error) {
      note(error.status || "no answer");
      throw error;
    }
  }
}
