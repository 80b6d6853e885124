// What JavaScript has for HTTP publishes: node publishing.mjs <url> <key>. Prints what came of it, in JSON, one
// line for each attempt: [name, what is told].

import { subscribe } from "node:diagnostics_channel"
import http from "node:http"

const [url, key] = process.argv.slice(2)
const { origin, pathname: path } = new URL(url)
const MANY = 200
const EVENT = JSON.stringify({ event: "item-create", user: "ada", vault: "v1" })
const LARGE = EVENT.padStart(30_000_000)
const TOO_LARGE = EVENT.padStart(32 * 1024 * 1024 + 1)
const right = { authorization: `Bearer ${key}` }
const wrong = { authorization: "Bearer of-a-wrong-key" }

const tell = (name, told) => console.log(JSON.stringify([name, told]))

// --- fetch, which is undici ---

let connects = 0
subscribe("undici:client:connected", () => connects++)

const publish = async (body, headers = right, more = {}) => {
	const answer = await fetch(url, { method: "POST", body, headers, ...more })
	await answer.text()
	return answer.status
}

function* parts(text) {
	for (let start = 0; start < text.length; start += 100_000) yield Buffer.from(text.slice(start, start + 100_000))
}

const streamed = (text) => ReadableStream.from(parts(text))

const all = (statuses) => Object.fromEntries(statuses.map((s) => [s, statuses.filter((t) => t === s).length]))

// The dispatcher that Node has; it is there after the first fetch.
tell("first", await publish(EVENT))
const Agent = globalThis[Symbol.for("undici.globalDispatcher.1")].constructor
const dispatcher = new Agent({ connections: 1 })
connects = 0
const oneByOne = []
for (let i = 0; i < MANY; i++) oneByOne.push(await publish(EVENT, right, { dispatcher }))
tell("one by one", [all(oneByOne), connects])
await dispatcher.close()
tell("large", await publish(LARGE))
tell("large, in chunks", await publish(streamed(LARGE), right, { duplex: "half" }))
for (const [name, body, headers] of [
	["wrong key", LARGE, wrong],
	["too large", TOO_LARGE, right],
]) {
	tell(name, await publish(body, headers))
	tell(`${name}, in chunks`, await publish(streamed(body), headers, { duplex: "half" }))
}

// --- undici by itself ---

// With the names of the callbacks that each of its versions takes.
const dispatched = (agent, body) =>
	new Promise((resolve, reject) => {
		let status = 0
		const request = { origin, path, method: "POST", headers: right, body, idempotent: true }
		agent.dispatch(request, {
			onConnect() {},
			onHeaders: (code) => ((status = code), true),
			onData: () => true,
			onComplete: () => resolve(status),
			onError: reject,
		})
	})

for (const [name, options] of [
	["pool", { connections: 10, pipelining: 1 }],
	["pipelined", { connections: 1, pipelining: 10 }],
	["pipelined in a pool", { connections: 5, pipelining: 10 }],
]) {
	const agent = new Agent(options)
	connects = 0
	const statuses = await Promise.all(Array.from({ length: MANY }, () => dispatched(agent, EVENT)))
	tell(name, [all(statuses), connects])
	await agent.close()
}

// --- the module http ---

const agent = new http.Agent({ keepAlive: true, maxSockets: 1 })
const sockets = new Set()

const posted = (body, headers, asks = false) =>
	new Promise((resolve, reject) => {
		let asked = false
		const length = { "content-length": Buffer.byteLength(body) }
		const expect = asks ? { expect: "100-continue" } : {}
		const request = http.request(url, { agent, method: "POST", headers: { ...headers, ...length, ...expect } })
		request.on("socket", (socket) => sockets.add(socket))
		request.on("continue", () => ((asked = true), request.end(body)))
		request.on("response", (answer) => {
			answer.resume()
			answer.on("end", () => (resolve(asks ? [answer.statusCode, asked] : answer.statusCode), request.destroy()))
		})
		request.on("error", reject)
		if (asks) request.flushHeaders()
		else request.end(body)
	})

const ended = []
for (let i = 0; i < MANY; i++) ended.push(await posted(EVENT, right))
tell("http: one by one", [all(ended), sockets.size])
tell("http: large, asked for", await posted(LARGE, right, true))
tell("http: wrong key, not asked for", await posted(LARGE, wrong, true))
tell("http: wrong key", await posted(LARGE, wrong))
tell("http: too large", await posted(TOO_LARGE, right))
agent.destroy()
