/** The page of the demo: three devices, and who was told of what. */

import { el } from "/elements.js";
import { request } from "./api.js";
import { ask } from "./dialogs.js";
import { Device } from "./device.js";
import { Frames } from "./frames.js";
import { Journal } from "./journal.js";
import { Panel } from "./panel.js";

const DEVICES = [
  { id: "laptop", kind: "laptop", user: "Ada" },
  { id: "phone", kind: "phone", user: "Ada" },
  { id: "tablet", kind: "tablet", user: "Bob" },
];

const find = (id) => document.getElementById(id);

async function main() {
  const { users, ...config } = await request("GET", "/config.json");
  const accounts = new Map(users.map((user) => [user.name, { ...user, gone: false }]));
  const journal = new Journal(find("journal"), find("live"));
  const panels = DEVICES.map(({ id, kind, user }) => {
    const name = `${user}'s ${kind}`;
    const frames = new Frames(name);
    const device = new Device({
      id, kind, name, config, journal, account: accounts.get(user), onFrame: (direction, text) => frames.add(direction, text),
    });
    return new Panel(device, frames);
  });
  const devices = panels.map(({ device }) => device);
  journal.devices = devices;
  find("panels").replaceChildren(...panels.map(({ element }) => element));
  offerAdasVaults(panels);
  showTabs(devices);
  setInterval(() => panels.forEach((panel) => panel.tick()), 500);
  find("start-over").addEventListener("click", () => startOver(users, accounts, devices, journal));
  find("start-over").disabled = false;
  for (const device of devices) device.start();
}

/** Bob's tablet may ask for Ada's vaults, and gets nothing of them. */
function offerAdasVaults([laptop, phone, tablet]) {
  let asks = true;
  const update = () => {
    const ids = asks ? [laptop, phone].flatMap(({ device }) => [...device.content.vaults.keys()]) : [];
    tablet.device.setForeign(new Set(ids));
  };
  for (const { device } of [laptop, phone]) device.watch(update);
  tablet.offerForeign((yes) => {
    asks = yes;
    update();
  });
}

/** On a narrow window one device is shown at a time. */
function showTabs(devices) {
  const show = (id) => {
    find("panels").dataset.shown = id;
    for (const tab of find("tabs").children) tab.setAttribute("aria-pressed", String(tab.dataset.device === id));
  };
  find("tabs").replaceChildren(
    ...devices.map((device) => {
      const dot = el("span", { class: "tab-dot" });
      device.watch(() => {
        dot.className = `tab-dot ${device.state}`;
      });
      return el("button", { type: "button", class: "tab", "data-device": device.id, onclick: () => show(device.id) }, dot, device.name);
    }),
  );
  show(devices[0].id);
}

async function startOver(users, accounts, devices, journal) {
  const answer = await ask({
    title: "Start over?",
    text: "All users and vaults are deleted, and the demo begins as at the start.",
    action: "Start over",
  });
  if (answer === null) return;
  find("start-over").disabled = true;
  try {
    await request("POST", "/start-over", {});
    for (const user of users) Object.assign(accounts.get(user.name), user, { gone: false });
    journal.clear();
    await Promise.race([
      Promise.all(devices.map((device) => device.start())),
      new Promise((done) => setTimeout(done, 1000)),
    ]);
    say("");
  } catch (error) {
    say(error.message);
  } finally {
    find("start-over").disabled = false;
  }
}

function say(text) {
  find("trouble").textContent = text;
  find("trouble").hidden = text === "";
}

main().catch((error) => {
  say(`The demo can't begin: ${error.message}`);
});
