/*
 * The client of zBifrost for browsers and Node. One file, no dependencies, no build step.
 *
 *   <script src="http://localhost:8765/bifrost.js"></script>      window.BifrostClient
 *   import "http://localhost:8765/bifrost.js";                    globalThis.BifrostClient, in a module of a page
 *   const BifrostClient = require("./bifrost.js");                Node; `import BifrostClient from "./bifrost.js"` too
 *
 * bifrost.d.ts has the types.
 */
(function () {
    "use strict";

    /** Requests that change nothing: they are sent again if the connection is lost before the response has come. */
    const READS = new Set(["read", "connection_info", "discover", "get_schema", "cache_stats"]);
    /** Requests that belong to one connection: after a reconnect the client makes new ones. */
    const OF_CONNECTION = new Set(["subscribe", "unsubscribe"]);
    /** Requests about rows: they carry the last version that the client has seen. */
    const OF_ROWS = new Set(["create", "read", "update", "delete", "subscribe"]);
    const HOOKS = ["onConnecting", "onConnected", "onDisconnected", "onMessage", "onBroadcast", "onError"];

    /** Close codes of RFC 6455, 7.4. */
    const NORMAL = 1000, GOING_AWAY = 1001, ABNORMAL = 1006, REFUSED = 1008, RESTART = 1012;
    /** The server could not take what the client has sent (1009: too large), so it is not sent again. */
    const REJECTED_DATA = new Set([1002, 1003, 1007, 1009]);
    /** The backoff begins anew after a connection of this length, in milliseconds. */
    const STABLE = 10000;
    /** The longest first delay after 1001 and 1012, in milliseconds: the server comes back soon. */
    const SOON = 1000;
    /** Requests without a response at a time, unless the server says another limit: its default of bifrost.requests_max. */
    const IN_FLIGHT = 32;
    const OPEN = 1; // WebSocket.OPEN

    const DEFAULTS = {
        autoConnect: false,
        autoReconnect: true,
        autoRequest: null,
        reconnectDelay: 3000,
        maxReconnectDelay: 30000,
        timeout: 30000,
        heartbeat: 30000,
        token: null,
        tokenIn: "query",
        hooks: {},
        debug: false,
        WebSocket: null,
    };

    /**
     * What a request failed with. `code` is one of the server's codes (`not_found`, `invalid`, `forbidden`, `conflict`,
     * `too_many`, `failed`) or of the client's:
     *
     * - `not_connected`: the request was not sent, or it changes nothing;
     * - `outcome_unknown`: the request was sent and the connection was lost, so the server may have done it or not;
     * - `timeout`: no response in time; the server may still do it;
     * - `refused`: the server does not admit this client.
     *
     * `fields` says what is wrong with which field, if the server says so.
     */
    class BifrostError extends Error {
        constructor(code, message, fields = {}) {
            super(message);
            this.name = "BifrostError";
            this.code = code;
            this.fields = fields;
        }
    }

    class BifrostClient {
        #options;
        #hooks = new Map();
        #handlers = new Map();          // event -> Set of functions
        #pending = new Map();           // _requestId -> a request without a response
        #inFlight = 0;                  // how many of them were sent
        #subscriptions = new Map();     // "[model, filters]" -> subscription
        #nextId = 0;
        #link = null;                   // the connection, from its first attempt to its end
        #wanted = null;                 // the promise of connect(); null after disconnect() or a refusal
        #attempts = 0;
        #retryTimer = null;

        /**
         * @param {string} url `ws://`, `wss://`, `http://` or `https://` URL of the server.
         * @param {object} options See `Options` in bifrost.d.ts.
         */
        constructor(url = "ws://localhost:8765", options = {}) {
            this.url = String(url).replace(/^http/, "ws");
            this.#options = { ...DEFAULTS, ...options };
            /** The highest version of the data in any message of the server; null before the first. */
            this.seen = null;
            /** What the server said about itself and about this client (`connection_info`); null before it has. */
            this.info = null;
            Object.entries(this.#options.hooks).forEach(([name, hook]) => this.registerHook(name, hook));
            if (this.#options.autoConnect) this.connect().catch(() => {}); // onError has it
        }

        // --- the connection ---

        /**
         * Connect, and stay connected until `disconnect()`.
         * @returns {Promise<object>} The server's `connection_info`. Rejected with `refused` if the server refuses this
         *     client, and with `not_connected` after `disconnect()`, or after a failure without `autoReconnect`.
         */
        connect() {
            if (this.#wanted) return this.#wanted.promise;
            const { promise } = (this.#wanted = deferred());
            this.#attempts = 0;
            this.#open();
            return promise;
        }

        /** Close the connection and do not reconnect. Subscriptions begin again after the next `connect()`. */
        disconnect() {
            const closed = { code: NORMAL, reason: "", wasClean: true };
            if (this.#wanted) this.#ended(closed, new BifrostError("not_connected", "disconnect() was called"));
        }

        /** Whether requests can be sent now. */
        isConnected() {
            return Boolean(this.#link?.greeted && this.#link.socket.readyState === OPEN);
        }

        async #open() {
            const link = (this.#link = { socket: null, greeted: false, since: 0, heard: now(), timer: null });
            this.#log("connecting to", this.url);
            this.#hook("onConnecting", this.url);
            let token = this.#options.token;
            try {
                if (typeof token === "function") token = await token();
            } catch (error) {
                if (this.#link === link) this.#lost(`no token: ${error}`);
                return this.#error(error);
            }
            if (this.#link !== link) return; // disconnect() was called meanwhile
            try {
                link.socket = this.#socket(token);
            } catch (error) { // the URL is invalid
                return this.#lost(error.message, new BifrostError("not_connected", error.message));
            }
            const { socket } = link;
            socket.onmessage = (message) => this.#received(link, message.data);
            socket.onclose = ({ code, reason, wasClean }) => this.#ended({ code, reason: String(reason), wasClean });
            // A close with the same code follows, except in Node 20.
            socket.onerror = () => link.greeted || this.#lost("no connection");
            link.timer = setTimeout(() => this.#lost("the server did not greet in time"), this.#options.timeout);
        }

        #socket(token) {
            const Socket = this.#options.WebSocket ?? globalThis.WebSocket;
            if (!Socket) throw new Error("there is no WebSocket here; pass one: { WebSocket: require('ws') }");
            if (token === null || token === undefined) return new Socket(this.url);
            if (this.#options.tokenIn === "subprotocol") return new Socket(this.url, ["bearer", token]);
            const mark = this.url.includes("?") ? "&" : "?";
            return new Socket(`${this.url}${mark}token=${encodeURIComponent(token)}`);
        }

        #greeted(link, info) {
            link.greeted = true;
            link.since = now();
            clearTimeout(link.timer);
            this.#guard(link);
            this.#log("connected");
            this.#wanted.resolve(info);
            const { url, protocol, readyState } = link.socket;
            this.#hook("onConnected", { url: url.replace(/([?&]token=)[^&]*/, "$1***"), protocol, readyState, info });
            if (this.#options.autoRequest) this.send(this.#options.autoRequest).catch((error) => this.#error(error));
            this.#subscriptions.forEach((subscription) => this.#subscribe(subscription));
            this.#pump();
        }

        /** Ask for a sign of life when the server was silent for long: a page cannot see that its network is gone. */
        #guard(link) {
            const { heartbeat, timeout } = this.#options;
            if (!heartbeat) return;
            const asked = now();
            link.timer = setTimeout(() => {
                if (link.heard >= asked) return this.#guard(link);
                this.send({ event: "connection_info" }).catch(() => {});
                link.timer = setTimeout(() => {
                    if (link.heard >= asked) return this.#guard(link);
                    return this.#lost("the server is silent");
                }, timeout);
            }, heartbeat);
        }

        #lost(reason, failure) {
            this.#ended({ code: ABNORMAL, reason, wasClean: false }, failure);
        }

        /** The one place where a connection ends, or the attempt to make one. With a `failure` it is not made again. */
        #ended(closed, failure = this.#finalFailure(closed)) {
            const link = this.#link;
            this.#link = null;
            clearTimeout(this.#retryTimer);
            if (link) release(link);
            if (link?.greeted && now() - link.since >= STABLE) this.#attempts = 0;
            this.#settle(closed, failure);
            if (failure) {
                const { promise, reject } = this.#wanted;
                this.#wanted = null;
                promise.catch(() => {}); // a page need not look at the promise of connect()
                reject(failure);
                if (closed.code !== NORMAL) this.#error(failure);
                this.#log("disconnected:", closed.code, failure.message);
                this.#hook("onDisconnected", { ...closed, final: true, retryIn: null });
                return;
            }
            if (link?.greeted) this.#wanted = deferred();
            const retryIn = this.#delay(closed.code);
            this.#attempts += 1;
            this.#retryTimer = setTimeout(() => this.#open(), retryIn);
            this.#log("disconnected:", closed.code, closed.reason, `next attempt in ${Math.round(retryIn)} ms`);
            this.#hook("onDisconnected", { ...closed, final: false, retryIn });
        }

        /** Why there will not be another attempt; null if there will be one. */
        #finalFailure({ code, reason }) {
            const why = `${reason || "the connection was lost"} (code ${code})`;
            if (code === REFUSED || (code >= 4000 && code < 5000)) return new BifrostError("refused", why);
            return this.#options.autoReconnect ? null : new BifrostError("not_connected", why);
        }

        /** Full jitter: clients that were disconnected together do not come back together. */
        #delay(code) {
            const { reconnectDelay, maxReconnectDelay } = this.#options;
            const first = code === GOING_AWAY || code === RESTART ? Math.min(SOON, reconnectDelay) : reconnectDelay;
            return Math.random() * Math.min(maxReconnectDelay, first * 2 ** this.#attempts);
        }

        /** Decide about the requests without a response. Without a `failure`, reads wait for the next connection. */
        #settle(closed, failure) {
            const why = `${closed.reason || "the connection was lost"} (code ${closed.code})`;
            for (const request of [...this.#pending.values()]) {
                const { event } = request.payload;
                const repeatable = READS.has(event) || OF_CONNECTION.has(event);
                if (request.sent && !repeatable) {
                    const text = `${why} before the response to ${event}, which may be done or not`;
                    this.#finish(request, new BifrostError("outcome_unknown", text));
                } else if (failure || OF_CONNECTION.has(event))
                    this.#finish(request, failure ?? new BifrostError("not_connected", why));
                else if (request.sent && REJECTED_DATA.has(closed.code))
                    this.#finish(request, new BifrostError("invalid", why));
                else if (request.sent) {
                    request.sent = false;
                    this.#inFlight -= 1;
                }
            }
        }

        // --- requests ---

        /**
         * Send a request. Without a connection it waits for one, if `connect()` was called.
         * @param {object} payload `{event: NAME, ...}`
         * @param {number} timeout Milliseconds to wait for the response, also for a connection.
         * @returns {Promise<any>} The `result` of the response; rejected with a `BifrostError`.
         */
        send(payload, timeout = this.#options.timeout) {
            if (!this.#wanted) return Promise.reject(new BifrostError("not_connected", "call connect() first"));
            const id = this.#nextId++;
            const request = { id, payload, sent: false, timer: null, ...deferred() };
            this.#pending.set(id, request);
            request.timer = setTimeout(() => {
                const state = request.sent ? "no response" : "no connection";
                this.#finish(request, new BifrostError("timeout", `${state} to ${payload.event} within ${timeout} ms`));
            }, timeout);
            this.#pump();
            return request.promise;
        }

        /** Send the requests that wait, as many as the server handles at the same time. */
        #pump() {
            if (!this.isConnected()) return;
            const most = this.info?.requests_max ?? IN_FLIGHT;
            for (const request of this.#pending.values()) {
                if (this.#inFlight >= most) return;
                if (!request.sent) this.#transmit(request);
            }
        }

        #transmit(request) {
            const seen = OF_ROWS.has(request.payload.event) && this.seen !== null ? { seen: this.seen } : {};
            try {
                this.#link.socket.send(JSON.stringify({ ...seen, ...request.payload, _requestId: request.id }));
                request.sent = true;
                this.#inFlight += 1;
            } catch (error) { // what JSON cannot hold
                this.#finish(request, new BifrostError("invalid", error.message));
            }
        }

        #forget(request) {
            this.#pending.delete(request.id);
            clearTimeout(request.timer);
            if (request.sent) this.#inFlight -= 1;
        }

        #finish(request, error, result) {
            this.#forget(request);
            if (error) request.reject(error);
            else request.resolve(result);
            this.#pump();
        }

        /** Create one row (an object) or several (a list). Resolves to the rows with their keys. */
        create(model, data) {
            return this.send({ event: "create", model, data });
        }

        /** Read rows: `{rows, total}`. Options: `fields`, `order_by`, `limit`, `offset`, `cache_ttl`, `no_cache`. */
        read(model, filters = {}, options = {}) {
            return this.send({ event: "read", model, filters, ...options });
        }

        /** Change the rows that the filters match. Resolves to their number. */
        update(model, filters, data) {
            return this.send({ event: "update", model, filters, data });
        }

        /** Delete the rows that the filters match. Resolves to their number. */
        delete(model, filters) {
            return this.send({ event: "delete", model, filters });
        }

        // --- messages ---

        #received(link, text) {
            link.heard = now();
            const message = parse(text);
            this.#hook("onMessage", message);
            if (this.#link !== link || message === null || typeof message !== "object") {
                if (this.#link === link) this.#hook("onBroadcast", message);
                return;
            }
            const version = message._version ?? (message.event === "data_updated" ? message.data?.version : null);
            if (typeof version === "number" && !(version < this.seen)) this.seen = version;
            if (message._requestId !== undefined) this.#responded(message);
            else if (message.event === "connection_info") this.#informed(link, message.data);
            else if (message.event === undefined && message.error !== undefined) this.#error(asError(message));
            else this.#happened(message);
        }

        #responded(message) {
            const request = this.#pending.get(message._requestId);
            if (!request) return; // its time was over
            if (request.payload.event === "connection_info" && message.error === undefined) this.info = message.result;
            this.#finish(request, message.error === undefined ? null : asError(message), message.result);
        }

        #informed(link, info) {
            this.info = info;
            if (!link.greeted) this.#greeted(link, info);
        }

        #happened(message) {
            const { event, data } = message;
            if (event === "data_updated") {
                for (const { name, model, handlers } of this.#subscriptions.values())
                    if (model === data?.model && (name ?? data.subscription) === data.subscription)
                        handlers.forEach((handler) => this.#call(handler, data));
            }
            this.#handlers.get(event)?.forEach((handler) => this.#call(handler, data, message));
            this.#hook("onBroadcast", message);
        }

        /**
         * Call `handler(data, message)` for each message of the server with this `event`.
         * @returns {() => void} A function that ends it.
         */
        on(event, handler) {
            if (!this.#handlers.has(event)) this.#handlers.set(event, new Set());
            this.#handlers.get(event).add(handler);
            return () => this.#handlers.get(event).delete(handler);
        }

        // --- live data ---

        /**
         * Call `handler({model, action, ...})` when rows change. The action is `insert` or `update` (with `rows`),
         * `delete` (with `keys`), or `refresh`: changes may have been missed, as after a reconnect, so read again.
         * @returns {(() => void) & {ready: Promise<any>}} A function that ends it; `ready` resolves once the server has
         *     agreed, and is rejected if it does not.
         */
        subscribe(model, filters, handler) {
            const key = JSON.stringify([model, filters ?? {}]);
            let subscription = this.#subscriptions.get(key);
            if (!subscription) {
                subscription = { key, model, filters: filters ?? {}, handlers: new Set(), agreed: false, ...deferred() };
                subscription.promise.catch(() => {}); // onError has it
                this.#subscriptions.set(key, subscription);
                if (this.isConnected()) this.#subscribe(subscription);
            }
            const own = (change) => handler(change); // the same function may subscribe twice
            subscription.handlers.add(own);
            const stop = () => {
                if (!subscription.handlers.delete(own) || subscription.handlers.size) return;
                if (this.#subscriptions.get(key) === subscription) this.#subscriptions.delete(key);
                if (this.isConnected()) this.send({ event: "unsubscribe", model, filters: filters ?? {} }).catch(() => {});
            };
            return Object.assign(stop, { ready: subscription.promise });
        }

        #subscribe(subscription) {
            const { model, filters, handlers } = subscription;
            this.send({ event: "subscribe", model, filters }).then(
                (result) => {
                    subscription.name = result?.subscription;
                    const resumed = subscription.agreed;
                    subscription.agreed = true;
                    subscription.resolve();
                    if (resumed) handlers.forEach((handler) => this.#call(handler, { model, action: "refresh" }));
                },
                (error) => {
                    if (error.code === "not_connected") return; // it begins again after the next connect()
                    if (this.#subscriptions.get(subscription.key) === subscription)
                        this.#subscriptions.delete(subscription.key);
                    subscription.reject(error);
                    this.#error(error);
                },
            );
        }

        /**
         * Keep a list of rows up to date: read, subscribe, and read again after each change and each reconnect. Calls
         * `handler(rows, total)` after each read, in order, never with older rows than before.
         * @returns {() => void} A function that ends it.
         */
        watch(model, filters, handler, options = {}) {
            let reading = false, again = false, ended = false;
            const refresh = async () => {
                if (reading) return void (again = true);
                reading = true;
                do {
                    again = false;
                    try {
                        const { rows, total } = await this.read(model, filters ?? {}, options);
                        if (!ended) this.#call(() => handler(rows, total));
                    } catch (error) {
                        if (!ended) this.#error(error);
                    }
                } while (again && !ended);
                reading = false;
            };
            const stop = this.subscribe(model, filters, refresh);
            stop.ready.then(refresh, () => {});
            return () => ((ended = true), stop());
        }

        // --- hooks ---

        /** Set a hook: `onConnecting`, `onConnected`, `onDisconnected`, `onMessage`, `onBroadcast` or `onError`. */
        registerHook(name, hook) {
            if (!HOOKS.includes(name)) throw new TypeError(`unknown hook ${name}; there are ${HOOKS.join(", ")}`);
            if (typeof hook !== "function") throw new TypeError(`the hook ${name} must be a function`);
            this.#hooks.set(name, hook);
        }

        /** Remove a hook. Returns whether there was one. */
        unregisterHook(name) {
            return this.#hooks.delete(name);
        }

        /** The names of the hooks that are set. */
        listHooks() {
            return [...this.#hooks.keys()];
        }

        #hook(name, argument) {
            const hook = this.#hooks.get(name);
            if (hook) this.#call(hook, argument);
        }

        /** An error in a function of the page does not disturb the connection. */
        #call(handler, ...values) {
            try {
                Promise.resolve(handler(...values)).catch((error) => this.#error(error, handler));
            } catch (error) {
                this.#error(error, handler);
            }
        }

        #error(error, source) {
            const hook = this.#hooks.get("onError");
            if (hook && hook !== source) this.#call(hook, error);
            else console.error("[BifrostClient]", error);
        }

        #log(...values) {
            if (this.#options.debug) console.debug("[BifrostClient]", ...values);
        }
    }

    /** A promise with the functions that settle it. */
    function deferred() {
        const parts = {};
        parts.promise = new Promise((resolve, reject) => Object.assign(parts, { resolve, reject }));
        return parts;
    }

    /** Let go of a socket: its later events have no effect. */
    function release({ socket, timer }) {
        clearTimeout(timer);
        if (!socket) return;
        socket.onmessage = socket.onclose = null;
        socket.onerror = () => {};
        socket.close();
    }

    function parse(text) {
        try {
            return JSON.parse(text);
        } catch {
            return text; // not of zBifrost; onMessage and onBroadcast get it as it is
        }
    }

    function asError({ error, code, fields }) {
        return new BifrostError(code ?? "failed", String(error), fields ?? {});
    }

    function now() {
        return performance.now();
    }

    BifrostClient.BifrostClient = BifrostClient;
    BifrostClient.BifrostError = BifrostError;
    if (typeof module === "object" && module.exports) module.exports = BifrostClient;
    else globalThis.BifrostClient = BifrostClient;
})();
