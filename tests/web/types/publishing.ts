// An API's use of the publisher, and what it may not do; and that what is declared is there.

import * as declared from "./publisher.js";
import * as found from "./generated/publisher.js";
import { EventRefusedError, Publisher, PublisherError, QueueFullError } from "./publisher.js";

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;

export const exports: Same<keyof typeof declared, keyof typeof found> = true;
export const members: Same<keyof declared.Publisher, keyof found.Publisher> = true;
export const refused: Same<keyof declared.EventRefusedError, keyof found.EventRefusedError> = true;

export async function use(): Promise<number> {
  const publisher = new Publisher("http://127.0.0.1:42103", "key", {
    maxWaiting: 5, onTrouble: (reason) => console.warn(reason.length),
    onRefused: (event, error) => console.error(event.id.length, event.event, error.status, error.identifier, error.sentence),
  });
  try {
    const id: string = publisher.publish({ event: "item-create", user: "u", vault: "v", group: "g", data: { id: "i" } });
    console.log(id);
  } catch (error) {
    if (error instanceof QueueFullError) console.log(error.message);
    else if (error instanceof PublisherError) throw error;
  }
  await publisher.flush();
  const closed: number = await publisher.disconnect({ user: "u", group: "g", until: 5 });
  await publisher.disconnect({ user: "u" });
  await publisher.disconnect({ group: "g" });
  for (const event of await publisher.close(2)) console.log(event.id.length, closed);
  return new EventRefusedError(422, "invalid-body", "No.").status;
}

export function mistakes(publisher: Publisher): void {
  // @ts-expect-error There is no such event.
  publisher.publish({ event: "item-update", user: "u" });
  // @ts-expect-error Somebody must hear of it.
  publisher.publish({ event: "user-update" });
  // @ts-expect-error Left out rather than null.
  publisher.publish({ event: "user-update", user: "u", group: null });
  // @ts-expect-error Somebody must be meant.
  publisher.disconnect({ until: 5 });
  // @ts-expect-error No such option.
  new Publisher("http://a", "key", { retries: 3 });
}
