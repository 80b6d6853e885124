'use strict';

// The contract of the Localful WebSocket server on Node: `ws` for the devices, `jsonwebtoken` for their
// tokens, Node's own HTTP server for the publisher. Written the way a Node developer with an eye on cost
// would: an event is encoded once, each user has a set of connections, handlers are shared functions, one
// timer sweeps all connections, and per-message compression is off.

const http = require('node:http');
const crypto = require('node:crypto');
const { WebSocketServer, WebSocket } = require('ws');
const jwt = require('jsonwebtoken');

const KiB = 1024;
const PATH = '/v1/sync';
const AUTH_TIMEOUT_MS = 3000;
const MAX_MESSAGE = 64 * KiB;
const MAX_BODY = 64 * KiB * KiB;
const MAX_BATCH = 1000;
const MAX_VAULTS = 1000;
const SEND_BUFFER_BYTES = 4 * KiB * KiB;
const BACKLOG = 4096;
const PING_INTERVAL_MS = 1000 * Number(process.env.LOCALFUL_WS_PING_INTERVAL || 25);

const USER_EVENTS = new Set(['user-update', 'user-password-change', 'user-email-change', 'user-delete']);
const VAULT_EVENTS = new Set(['vault-create', 'vault-update', 'vault-delete']);
const DATA_EVENTS = new Set(['item-create', 'item-delete', 'version-create', 'version-delete']);

const secret = crypto.createSecretKey(Buffer.from(required('LOCALFUL_WS_JWT_SECRET')));
const publisherKey = Buffer.from(`Bearer ${required('LOCALFUL_WS_PUBLISHER_KEY')}`);
const users = new Map(); // user -> Set of authenticated connections
const AS_TEXT = { binary: false };
const EPOCH = crypto.randomBytes(9).toString('base64url'); // cursors as long as the daemon's; nothing is kept
let position = 0;

function required(name) {
  const value = process.env[name];
  if (!value) {
    console.error(`${name} is missing`);
    process.exit(2);
  }
  return value;
}

function isId(value) {
  return typeof value === 'string' && value.length >= 1 && value.length <= 128;
}

// --- devices ----------------------------------------------------------------------------------------

function refuse(ws, closeCode, code, message) {
  ws.send(JSON.stringify({ event: 'error', code, message }));
  ws.close(closeCode, code);
}

function authenticationTimeout(ws) {
  ws.close(4408, 'authentication-timeout');
}

function onConnection(ws) {
  ws.isAlive = true;
  ws.session = null;
  ws.vaults = null;
  ws.authTimer = setTimeout(authenticationTimeout, AUTH_TIMEOUT_MS, ws);
  ws.on('message', onMessage);
  ws.on('pong', onPong);
  ws.on('close', onClose);
  ws.on('error', onError);
}

function onPong() {
  this.isAlive = true;
}

function onError() {
  // `close` follows and cleans up.
}

function onClose() {
  clearTimeout(this.authTimer);
  if (this.session !== null) leave(this);
}

function join(ws) {
  const devices = users.get(ws.session.user);
  if (devices === undefined) users.set(ws.session.user, new Set([ws]));
  else devices.add(ws);
}

function leave(ws) {
  const devices = users.get(ws.session.user);
  if (devices === undefined) return;
  devices.delete(ws);
  if (devices.size === 0) users.delete(ws.session.user);
}

function onMessage(raw, isBinary) {
  if (isBinary) return this.close(4400, 'bad-message');
  let message;
  try {
    message = JSON.parse(raw);
  } catch {
    return refuse(this, 4400, 'bad-message', 'A message must be a JSON object.');
  }
  if (message === null || typeof message !== 'object' || Array.isArray(message)) {
    return refuse(this, 4400, 'bad-message', 'A message must be a JSON object.');
  }
  if (message.event === 'authenticate') return authenticate(this, message);
  if (this.session === null) return refuse(this, 4401, 'unauthorized', 'The first message must be authenticate.');
  if (message.event === 'subscribe' || (message.event === undefined && 'vaults' in message)) {
    return subscribe(this, message);
  }
  return refuse(this, 4400, 'bad-message', 'This event is not known.');
}

function readToken(token) {
  const claims = jwt.verify(token, secret, { algorithms: ['HS256'] });
  if (!isId(claims.sub) || !isId(claims.gid) || typeof claims.exp !== 'number') throw new Error('claims');
  if (claims.type !== undefined && claims.type !== 'accessToken') throw new Error('type');
  return { user: claims.sub, group: claims.gid, expiresAt: claims.exp };
}

function readVaults(vaults) {
  if (!Array.isArray(vaults) || vaults.length > MAX_VAULTS || !vaults.every(isId)) return null;
  return new Set(vaults);
}

function authenticate(ws, message) {
  let session;
  try {
    session = readToken(message.token);
  } catch {
    return refuse(ws, 4401, 'unauthorized', 'The token is not valid.');
  }
  let vaults = ws.vaults || new Set();
  if (message.vaults !== undefined) {
    vaults = readVaults(message.vaults);
    if (vaults === null) return refuse(ws, 4400, 'bad-message', 'vaults must be a list of vault ids.');
  }
  if (ws.session === null) {
    clearTimeout(ws.authTimer);
    ws.authTimer = null;
    ws.session = session;
    join(ws);
  } else if (ws.session.user !== session.user) {
    return refuse(ws, 4403, 'forbidden', 'A renewal must be for the same user.');
  }
  ws.session = session;
  ws.vaults = vaults;
  const cursor = `${EPOCH}.${position}`;
  ws.send(JSON.stringify({ event: 'authenticated', ...session, vaults: [...vaults], cursor, id: message.id }));
}

function subscribe(ws, message) {
  const vaults = readVaults(message.vaults);
  if (vaults === null) return refuse(ws, 4400, 'bad-message', 'vaults must be a list of vault ids.');
  ws.vaults = vaults;
  ws.send(JSON.stringify({ event: 'subscribed', vaults: [...vaults], id: message.id }));
}

// --- events -----------------------------------------------------------------------------------------

function deliver(event) {
  const cursor = `${EPOCH}.${(position += 1)}`;
  const devices = users.get(event.user);
  if (devices === undefined) return;
  const isData = DATA_EVENTS.has(event.event);
  const bytes = Buffer.from(JSON.stringify({ event: event.event, vault: event.vault, data: event.data, cursor }));
  for (const ws of devices) {
    if (event.group !== undefined && ws.session.group === event.group) continue;
    if (isData && !ws.vaults.has(event.vault)) continue;
    if (ws.readyState !== WebSocket.OPEN) continue;
    if (ws.bufferedAmount > SEND_BUFFER_BYTES) ws.close(4412, 'slow-consumer');
    else ws.send(bytes, AS_TEXT);
  }
  if (event.event === 'vault-delete') for (const ws of devices) ws.vaults.delete(event.vault);
  if (event.event === 'user-delete') for (const ws of devices) ws.close(4403, 'forbidden');
}

function isEvent(event) {
  if (event === null || typeof event !== 'object' || !isId(event.user)) return false;
  if (event.group !== undefined && !isId(event.group)) return false;
  if (USER_EVENTS.has(event.event)) return event.vault === undefined;
  return (VAULT_EVENTS.has(event.event) || DATA_EVENTS.has(event.event)) && isId(event.vault);
}

function answer(response, statusCode, body) {
  const bytes = JSON.stringify(body);
  response.writeHead(statusCode, { 'content-type': 'application/json', 'content-length': Buffer.byteLength(bytes) });
  response.end(bytes);
}

function fail(response, statusCode, identifier, message, context) {
  answer(response, statusCode, { statusCode, identifier, message, context });
}

function isPublisher(header) {
  const given = Buffer.from(header || '');
  return given.length === publisherKey.length && crypto.timingSafeEqual(given, publisherKey);
}

function onRequest(request, response) {
  if (request.method === 'GET' && request.url === '/healthz') return answer(response, 200, { status: 'ok' });
  if (request.method !== 'POST' || request.url !== '/v1/events') {
    return fail(response, 404, 'not-found', 'There is nothing here.');
  }
  if (!isPublisher(request.headers.authorization)) {
    return fail(response, 401, 'unauthorized', 'The publisher key is missing or wrong.');
  }
  const chunks = [];
  let size = 0;
  request.on('data', (chunk) => {
    size += chunk.length;
    if (size <= MAX_BODY) chunks.push(chunk);
  });
  request.on('end', () => {
    if (size > MAX_BODY) return fail(response, 413, 'too-big', 'The request is too big.');
    publish(response, chunks.length === 1 ? chunks[0] : Buffer.concat(chunks));
  });
}

function publish(response, bytes) {
  let body;
  try {
    body = JSON.parse(bytes);
  } catch {
    return fail(response, 400, 'not-json', 'The body must be JSON.');
  }
  const events = Array.isArray(body?.events) ? body.events : [body];
  if (events.length > MAX_BATCH) return fail(response, 422, 'bad-event', 'Too many events in one batch.');
  const index = events.findIndex((event) => !isEvent(event));
  if (index !== -1) return fail(response, 422, 'bad-event', 'This event cannot be.', { index });
  for (const event of events) deliver(event);
  answer(response, 202, { accepted: events.length });
}

// --- start and stop ---------------------------------------------------------------------------------

function sayWhere(listener, server) {
  const { address, port } = server.address();
  process.stderr.write(`${JSON.stringify({ event: 'listening', listener, host: address, port })}\n`);
}

const devicesServer = http.createServer((_request, response) => {
  response.writeHead(426).end();
});
const wss = new WebSocketServer({
  server: devicesServer,
  path: PATH,
  perMessageDeflate: false,
  maxPayload: MAX_MESSAGE,
  handleProtocols: (offered) => (offered.has('localful.v1') ? 'localful.v1' : false),
});
wss.on('connection', onConnection);
devicesServer.listen({ host: '127.0.0.1', port: 0, backlog: BACKLOG }, () => sayWhere('websocket', devicesServer));

const internalServer = http.createServer(onRequest);
internalServer.keepAliveTimeout = 600_000;
internalServer.listen({ host: '127.0.0.1', port: 0 }, () => sayWhere('internal', internalServer));

setInterval(() => {
  for (const ws of wss.clients) {
    if (!ws.isAlive) ws.terminate();
    else {
      ws.isAlive = false;
      ws.ping();
    }
  }
}, PING_INTERVAL_MS);

setInterval(() => {
  const now = Date.now() / 1000;
  for (const ws of wss.clients) {
    if (ws.session !== null && ws.session.expiresAt <= now) ws.close(4410, 'token-expired');
  }
}, 1000);

process.on('SIGTERM', () => process.exit(0));
