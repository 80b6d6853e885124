/**
 * The operator's console: asks for the key, keeps asking the daemon how it is, and shows a view.
 *
 * @module
 */

import { ask, forgetKey, hasKey, KeyRefused, useKey } from "./api.js";
import { el } from "../elements.js";
import { byId, plural, setText } from "./dom.js";
import { Overview } from "./overview.js";
import { User } from "./user.js";
import { Users } from "./users.js";

const POLL_MS = 2000;
const LONGEST_PAUSE_MS = 30_000;

/** Counts the times that a key was given or forgotten: what was asked before has no say after. */
let session = 0;
let overview = null;
let latest = null;
/** What is shown beside the list: a `User`, or null for the invitation to choose one. */
let user;
let timer = null;
let failures = 0;
let retryAt = 0;
let failure = "";

const users = new Users({
  open: (id) => (location.hash = `#/users/${encodeURIComponent(id)}`),
  refuse: refused,
  expected: () => latest?.users ?? 0,
});

// --- the key ---

byId("key-form").addEventListener("submit", async (event) => {
  event.preventDefault();
  const button = event.submitter ?? byId("key-form").querySelector("button");
  button.disabled = true;
  try {
    useKey(byId("key").value);
    const first = await ask("overview");
    byId("key").value = "";
    open(first);
  } catch (error) {
    forgetKey();
    askForKey(error.message);
  }
  button.disabled = false;
});

byId("forget").addEventListener("click", () => {
  history.replaceState(null, "", location.pathname);
  askForKey("");
});

function refused(error) {
  if (hasKey()) askForKey(`${error.message} It may have been changed.`);
}

function askForKey(problem) {
  session += 1;
  forgetKey();
  clearTimeout(timer);
  user?.close();
  user = undefined;
  overview = latest = null;
  failures = 0;
  users.clear();
  for (const id of ["tiles", "charts", "user"]) byId(id).replaceChildren();
  document.title = "Console · Localful WebSocket server";
  for (const id of ["views", "state", "forget", "overview", "users"]) byId(id).hidden = true;
  byId("problems").replaceChildren();
  byId("key-form").hidden = false;
  byId("key-problem").hidden = problem === "";
  byId("key-problem").textContent = problem;
  byId("key").focus();
}

function open(first) {
  session += 1;
  byId("key-form").hidden = true;
  byId("key-problem").hidden = true;
  for (const id of ["views", "state", "forget"]) byId(id).hidden = false;
  overview = new Overview();
  byId("overview").hidden = false;
  show(first);
  route();
  byId("main").focus({ preventScroll: true });
  timer = setTimeout(poll, POLL_MS);
}

// --- the daemon's state ---

async function poll() {
  const asked = session;
  try {
    const answer = await ask("overview");
    if (session !== asked) return;
    failures = 0;
    show(answer);
  } catch (error) {
    if (session !== asked) return;
    if (error instanceof KeyRefused) {
      refused(error);
      return;
    }
    failures += 1;
    failure = error.message;
  }
  const pause = Math.min(POLL_MS * 2 ** Math.min(failures, 8), LONGEST_PAUSE_MS);
  retryAt = performance.now() + (failures === 0 ? POLL_MS : pause);
  clearTimeout(timer);
  timer = setTimeout(poll, retryAt - performance.now());
  problems();
}

function show(answer) {
  latest = answer;
  overview.update(answer);
  problems();
}

function problems() {
  const found = [];
  if (failures > 0) {
    const seconds = Math.max(0, Math.ceil((retryAt - performance.now()) / 1000));
    const again = () => {
      clearTimeout(timer);
      poll();
    };
    found.push(["bad", `${failure} What you see is not fresh.`, `Trying again in ${seconds} s.`, again]);
  } else if (latest !== null) {
    const { workers, draining, engine, unavailable, missedEventsLately: missed } = latest;
    if (draining) found.push(["warn", "The daemon is shutting down: it takes no devices and no events.", ""]);
    const reason = draining ? null : unavailable;
    if (!engine.up) {
      // Without a reason it is so at another worker than the one that answered.
      const what = reason ?? "The engine is unavailable.";
      found.push(["bad", what, "Devices stay connected; publishes and new devices are turned away meanwhile."]);
    } else if (reason !== null) {
      found.push(["bad", reason, ""]);
    }
    if (workers.missing > 0) {
      const all = workers.serving + workers.missing;
      const answer = workers.missing === 1 ? "doesn't answer" : "don't answer";
      found.push(["warn", `${workers.missing} of ${all} workers ${answer}.`, "What is theirs is missing here."]);
    }
    if (missed > 0) {
      const were = missed === 1 ? "was" : "were";
      found.push([
        "warn",
        `${plural(missed, "device")} ${were} closed in the last five minutes: events for them can't be had any more (4413).`,
        "They come back, and fetch a snapshot unless they can resume. The log says why.",
      ]);
    }
  }
  const [badge, words] =
    failures > 0 ? ["bad", "not reached"] : found.length > 0 ? [found[0][0], "trouble"] : ["good", "all is well"];
  const state = byId("state").firstElementChild ?? byId("state").appendChild(el("span"));
  state.className = `badge dot ${badge}`;
  setText(state, words);
  document.title = `${badge === "good" ? "" : `${words} · `}Console · Localful WebSocket server`;
  const key = JSON.stringify(found.map(([, what]) => what));
  const box = byId("problems");
  if (box.dataset.key !== key) {
    box.dataset.key = key;
    box.replaceChildren(
      ...found.map(([kind, what, more, act]) =>
        el(
          "div",
          { class: `notice ${kind} problem` },
          el("strong", {}, what),
          // A countdown is not to be read out.
          el("span", act ? { "aria-hidden": "true", class: "number" } : {}, more),
          act && el("button", { type: "button", onclick: act }, "Try now"),
        ),
      ),
    );
  } else {
    found.forEach(([, , more], index) => setText(box.children[index].children[1], more));
  }
}

// --- views ---

function route() {
  if (!hasKey() || overview === null) return;
  const [, view, id] = /^#\/(users)?(?:\/(.+))?$/.exec(location.hash) ?? [];
  const inUsers = view === "users";
  byId("overview").hidden = inUsers;
  byId("users").hidden = !inUsers;
  users.setVisible(inUsers);
  for (const link of byId("views").children) {
    if ((link.dataset.view === "users") === inUsers) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  openUser(inUsers && id !== undefined ? decode(id) : null);
}

function decode(text) {
  try {
    return decodeURIComponent(text);
  } catch {
    return text;
  }
}

function openUser(id) {
  if (user !== undefined && id === (user?.user ?? null)) return;
  user?.close();
  user = id === null ? null : new User(id, refused);
  byId("users").classList.toggle("has-user", user !== null);
  users.setCurrent(id);
  byId("user").replaceChildren(
    user?.element ?? el("p", { class: "soft user-none" }, "Choose a user, or look one up by their id."),
  );
  // Where the list is out of view, the reader goes along.
  if (user !== null && byId("users-rows").closest("section").offsetParent === null) byId("user-title").focus();
}

addEventListener("hashchange", route);
document.addEventListener("visibilitychange", () => {
  // Hidden pages are seldom woken; back in view, they are not to look old.
  if (document.hidden || !hasKey() || overview === null) return;
  clearTimeout(timer);
  poll();
});
setInterval(() => {
  if (!hasKey() || overview === null) return;
  if (failures > 0) problems();
  users.tick();
  user?.tick();
}, 1000);

askForKey("");
