// What is declared is there, and what is there is declared: `generated/` is what the compiler finds in client.js itself.

import * as declared from "./client.js";
import * as found from "./generated/client.js";

type Same<A, B> = [A] extends [B] ? ([B] extends [A] ? true : false) : false;

export const exports: Same<keyof typeof declared, keyof typeof found> = true;
export const client: Same<keyof declared.Client, keyof found.Client> = true;
export const conversation: Same<keyof declared.Conversation, keyof found.Conversation> = true;
export const event: Same<keyof declared.ReceivedEvent, keyof found.ReceivedEvent> = true;
export const snapshot: Same<keyof declared.SnapshotNeeded, keyof found.SnapshotNeeded> = true;
export const closed: Same<keyof declared.ClosedByServerError, keyof found.ClosedByServerError> = true;
export const refused: Same<keyof declared.RequestRefusedError, keyof found.RequestRefusedError> = true;
