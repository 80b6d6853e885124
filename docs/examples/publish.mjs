// An outbox in Node with its own SQLite and fetch: Node 22.13 or later, no packages, but for publisher.js.
// On an older Node put `import DatabaseSync from "better-sqlite3";` in place of the first import; the rest stays.
//
//   node publish.mjs app.db                     publish what is in the outbox, until Ctrl-C
//   node publish.mjs app.db ada laptop v1 i1    change something, as a handler of the HTTP API would

import { DatabaseSync } from "node:sqlite";
import { randomUUID } from "node:crypto";
import { setTimeout as sleep } from "node:timers/promises";
import { Publisher } from "../../localful_ws/web/publisher.js"; // put it beside this file

const URL = process.env.PUBLISH_URL ?? "http://127.0.0.1:42103";
const KEY = process.env.LOCALFUL_WS_PUBLISHER_KEY ?? "";
const BATCH = 500; // rows at once

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

// Publish the outbox in order, for ever. Only one process may do so.
export async function publish(database) {
  const refused = new Map();
  const publisher = new Publisher(URL, KEY, {
    onRefused: (event, error) => refused.set(event.id, error),
    onTrouble: (reason) => console.error(`trying again: ${reason}`),
  });
  for (;;) {
    const rows = database.prepare("SELECT position, body FROM outbox ORDER BY position LIMIT ?").all(BATCH);
    const positions = new Map(rows.map(({ position, body }) => [publisher.publish(JSON.parse(body)), position]));
    await publisher.flush();
    // A 503 that is handed back is of a `user-delete` for which the server has no room at present.
    const misled = [...refused.values()].find(({ status }) => ![400, 413, 422, 503].includes(status));
    if (misled) {
      // No event is to blame, but an address or a proxy: all of it again, until that is mended.
      console.error(`trying again: ${misled.message}`);
    } else if (rows.length > 0) {
      inTransaction(database, () => {
        for (const [id, { message }] of refused) {
          console.error(`set aside: ${message}`); // kept for a person to look at
          database
            .prepare("INSERT INTO outbox_refused SELECT body, ? FROM outbox WHERE position = ?")
            .run(message, positions.get(id));
        }
        database.prepare("DELETE FROM outbox WHERE position <= ?").run(rows.at(-1).position);
      });
    }
    refused.clear();
    await sleep(misled ? 5000 : rows.length > 0 ? 0 : 100);
  }
}

if (import.meta.main ?? process.argv[1] === import.meta.filename) {
  const [path, ...change] = process.argv.slice(2);
  const database = openDatabase(path);
  if (change.length > 0) createItem(database, ...change);
  else await publish(database);
}
