// An outbox in Node with its own SQLite and fetch: Node 22.13 or later, no packages.
// On an older Node put `import DatabaseSync from "better-sqlite3";` in place of the first import; the rest stays.
//
//   node publish.mjs app.db                     publish what is in the outbox, until Ctrl-C
//   node publish.mjs app.db ada laptop v1 i1    change something, as a handler of the HTTP API would

import { DatabaseSync } from "node:sqlite";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";

const URL = process.env.PUBLISH_URL ?? "http://127.0.0.1:42103";
const KEY = process.env.LOCALFUL_WS_PUBLISHER_KEY ?? "";
const BATCH = 500; // events in a request
const LONGEST_PAUSE = 30_000; // milliseconds between two attempts

export function openDatabase(path) {
  const database = new DatabaseSync(path);
  database.exec(`
    PRAGMA busy_timeout = 10000;
    PRAGMA journal_mode = WAL;
    CREATE TABLE IF NOT EXISTS items (id TEXT PRIMARY KEY, vault TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox (position INTEGER PRIMARY KEY AUTOINCREMENT, body TEXT NOT NULL);
    CREATE TABLE IF NOT EXISTS outbox_refused (body TEXT NOT NULL, reason TEXT NOT NULL);
  `);
  return database;
}

function inTransaction(database, change) {
  database.exec("BEGIN IMMEDIATE");
  try {
    change();
    database.exec("COMMIT");
  } catch (error) {
    database.exec("ROLLBACK");
    throw error;
  }
}

// The change and its event, in one transaction: both happen or neither does.
export function createItem(database, user, group, vault, item) {
  const event = {
    event: "item-create",
    user,
    group, // the `gid` of the token that came with the request
    vault,
    data: { id: item },
    id: randomUUID(), // made once, stored with the event
  };
  inTransaction(database, () => {
    database.prepare("INSERT INTO items (id, vault) VALUES (?, ?)").run(item, vault);
    database.prepare("INSERT INTO outbox (body) VALUES (?)").run(JSON.stringify(event));
  });
}

// Keep an event that will never be accepted for a person to look at, and let the others pass.
function setAside(database, position, reason) {
  inTransaction(database, () => {
    database
      .prepare("INSERT INTO outbox_refused SELECT body, ? FROM outbox WHERE position = ?")
      .run(reason, position);
    database.prepare("DELETE FROM outbox WHERE position = ?").run(position);
  });
}

// Which event of a request was refused, if that can be known.
function refusedEvent(text, events) {
  try {
    return JSON.parse(text).context.index ?? (events === 1 ? 0 : undefined);
  } catch {
    return events === 1 ? 0 : undefined; // a proxy's page, perhaps
  }
}

async function post(body) {
  try {
    const response = await fetch(`${URL}/v1/events`, {
      method: "POST",
      headers: { authorization: `Bearer ${KEY}` },
      body,
      signal: AbortSignal.timeout(10_000),
    });
    const retryAfter = Number(response.headers.get("retry-after") ?? 0) * 1000 || 0;
    return { status: response.status, text: await response.text(), retryAfter };
  } catch (error) {
    return { status: 0, text: String(error.cause ?? error), retryAfter: 0 };
  }
}

// Publish the outbox in order, for ever. Only one process may do so.
export async function publish(database) {
  let limit = BATCH;
  let failures = 0;
  for (;;) {
    const rows = database.prepare("SELECT position, body FROM outbox ORDER BY position LIMIT ?").all(limit);
    if (rows.length === 0) {
      await sleep(100);
      continue;
    }
    const { status, text, retryAfter } = await post(`{"events": [${rows.map((row) => row.body).join(",")}]}`);
    const reason = `HTTP ${status}: ${text}`;
    if (status === 202) {
      database.prepare("DELETE FROM outbox WHERE position <= ?").run(rows.at(-1).position);
      limit = BATCH;
      failures = 0;
    } else if ([400, 413, 422].includes(status)) {
      // The same again would be refused again.
      const index = refusedEvent(text, rows.length);
      if (index === undefined) {
        limit = Math.floor(rows.length / 2); // halves will tell
      } else {
        console.error(`set aside: ${reason}`);
        setAside(database, rows[index].position, reason);
      }
    } else {
      // Not accepted, or nobody knows. The same events again, with the ids that they have.
      const pause = Math.min(LONGEST_PAUSE, 100 * 2 ** Math.min(failures, 20)) * (0.5 + Math.random() / 2);
      failures += 1;
      console.error(`trying again: ${reason}`);
      await sleep(Math.max(pause, Math.min(retryAfter, LONGEST_PAUSE)));
    }
  }
}

if (import.meta.main ?? process.argv[1] === import.meta.filename) {
  const [path, ...change] = process.argv.slice(2);
  const database = openDatabase(path);
  if (change.length > 0) createItem(database, ...change);
  else await publish(database);
}
