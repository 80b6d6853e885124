// An app's use of the client, and what it may not do: the compiler is to take the one and refuse the other.

import {
  Client, ClientError, ClosedByServerError, Conversation, Handed, openClient, ReceivedEvent, Session, SnapshotNeeded,
  Status, TokenUnavailableError,
} from "./client.js";
import { WebSocket as NodeWebSocket } from "ws";

declare function store(cursor: string | null): Promise<void>;
declare function apply(event: string, vault: string | null, data: unknown): Promise<void>;
declare function replaceEverything(vaults: readonly string[]): Promise<void>;

async function getToken(): Promise<string> {
  const answer = await fetch("/v1/auth/refresh", { method: "POST" });
  if (answer.status >= 500) throw new TokenUnavailableError("The API is away.");
  return ((await answer.json()) as { accessToken: string }).accessToken;
}

function tell(status: Status): string {
  switch (status.kind) {
    case "connected":
      return `${status.session.user} until ${new Date(status.session.expiresAt * 1000)}, ${status.resumed}`;
    case "disconnected":
      return `${status.message} ${status.code ?? ""} again in ${status.delay.toFixed(1)} s`;
    case "refused":
      return status.code;
    case "renewal-failed":
      return String(status.error);
  }
}

export async function iterate(): Promise<void> {
  const client: Client = openClient("wss://sync.example.org/v1/sync", getToken, {
    vaults: new Set(["v1"]), since: null, timeouts: { answer: 5 }, onStatus: (status) => console.log(tell(status)),
  });
  try {
    for await (const arrival of client) {
      if (arrival.kind === "snapshot-needed") await replaceEverything(arrival.vaults);
      else await apply(arrival.event, arrival.vault, arrival.data);
      await store(client.cursor);
    }
  } catch (error) {
    if (error instanceof ClosedByServerError) console.log(error.code, error.reason, error.sentence);
    else if (error instanceof ClientError) console.log(error.message);
    else throw error;
  } finally {
    await client.close();
  }
}

export async function callBack(signal: AbortSignal): Promise<unknown> {
  const client = openClient("ws://127.0.0.1:42102/v1/sync", () => "token", {
    WebSocket: NodeWebSocket, signal, onArrival: (arrival: Handed) => { console.log(arrival.kind); },
  });
  const session: Session = await client.ready();
  const vaults: readonly string[] = await client.subscribe(["v1", session.user]);
  console.log(vaults.length, new ReceivedEvent("x", null, 1, null), new SnapshotNeeded(null, []));
  return client.ended;
}

export function refused(client: Client, arrival: Handed): void {
  // @ts-expect-error A URL is a string.
  openClient(5, getToken);
  // @ts-expect-error A token is a string.
  openClient("ws://a", () => 5);
  // @ts-expect-error No such option.
  openClient("ws://a", getToken, { vault: "v1" });
  // @ts-expect-error Clients are made by openClient.
  new Client();
  // @ts-expect-error The cursor moves by itself.
  client.cursor = "c1";
  // @ts-expect-error Which of the two it is has to be looked at first.
  arrival.data;
  // @ts-expect-error What the publisher gave is unknown.
  if (arrival.kind === "event") arrival.data.id;
  // @ts-expect-error A decision may be to give up.
  new Conversation([]).connectionLost(1006, "", "It broke.", 0).delay;
}
