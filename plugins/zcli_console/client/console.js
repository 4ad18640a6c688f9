// The console: one connection of its own, what the server says about itself at /console/state, and zBifrost's models.
// Everything that comes from the network is shown as text: the policy of the page allows no other way.
"use strict";

const $ = (id) => document.getElementById(id);
const MESSAGES = 500; // most messages that are kept and shown
const LONGEST = 20000; // characters of a message that are shown
const SECONDS = 60; // length of the charts
const REFUSED = [1008, 4001, 4003];
/** What to do about some of the server's reasons. */
const REASONS = {
    "authentication required": "authentication required; enter a token",
    "origin not allowed": "origin not allowed; the log of the server says how to admit this page",
};

/** Make an element with classes, a text and children; never with HTML. */
function element(tag, { text, ...properties } = {}, ...children) {
    const made = Object.assign(document.createElement(tag), properties);
    if (text !== undefined) made.textContent = text;
    made.append(...children);
    return made;
}

// --- the connection ---

const needsToken = document.body.dataset.auth === "required";
let socket = null;
let sentAt = null;

function setState(state, title, detail = "") {
    document.body.dataset.state = state;
    $("status").querySelector("b").textContent = title;
    $("status").querySelector("span").textContent = detail;
    $("send").disabled = state !== "open";
    $("connect").textContent = state === "closed" || state === "refused" ? "Connect" : "Disconnect";
    $("connect").classList.toggle("main", state === "closed" || state === "refused");
}

/** The address to connect to: always this host. */
function address() {
    const path = $("path").value.trim();
    return `${location.protocol === "https:" ? "wss:" : "ws:"}//${location.host}${path.startsWith("/") ? "" : "/"}${path}`;
}

/** The token, as a subprotocol: unlike a query, no proxy writes it into its log. */
function subprotocols(token) {
    return token && needsToken ? ["bearer", token] : [];
}

function connect() {
    const token = $("token").value.trim();
    setState("connecting", "Connecting", address());
    try {
        socket = new WebSocket(address(), subprotocols(token));
    } catch (error) {
        setState("refused", "Not connected", `The path or the token cannot be used: ${error.message}`);
        return;
    }
    const own = socket;
    own.binaryType = "arraybuffer";
    own.onopen = () => {
        setState("open", "Connected", address());
        add("note", `Connected to ${address()}`);
        pollSoon();
        if (document.activeElement === $("connect")) $("text").focus();
    };
    own.onmessage = ({ data }) => receive(data);
    own.onclose = ({ code, reason }) => {
        if (socket !== own) return;
        socket = null;
        sentAt = null;
        const refused = REFUSED.includes(code);
        const why = REASONS[reason] ?? (reason || (code === 1006 ? "no connection, or it was lost" : "closed"));
        setState(refused ? "refused" : "closed", refused ? "Refused" : "Not connected", `Code ${code}: ${why}`);
        add("note", `Disconnected, code ${code}: ${why}`);
        endModels();
        if (refused && needsToken && document.activeElement === $("text")) $("token").focus();
    };
}

$("connection").addEventListener("submit", (event) => {
    event.preventDefault();
    if (socket) socket.close(1000, "");
    else connect();
});

// --- messages ---

const log = $("log");
let waiting = []; // messages that are not in the list yet, the newest at the end
let drawn = false; // whether a drawing of them is planned
let received = 0;
let sent = 0;
let announced = 0;
let announceTimer = null;

function size(data) {
    const bytes = typeof data === "string" ? new Blob([data]).size : data.byteLength;
    return bytes < 1000 ? `${bytes} B` : bytes < 1e6 ? `${(bytes / 1000).toFixed(1)} kB` : `${(bytes / 1e6).toFixed(1)} MB`;
}

function binary(data) {
    const bytes = [...new Uint8Array(data).slice(0, 512)].map((byte) => byte.toString(16).padStart(2, "0"));
    return bytes.join(" ") + (data.byteLength > 512 ? " …" : "");
}

function add(kind, data) {
    waiting.push({ kind, data, at: new Date() });
    if (waiting.length > MESSAGES) waiting = waiting.slice(-MESSAGES / 2);
    if (!drawn && !$("paused").checked) {
        drawn = true;
        setTimeout(draw, 50); // not requestAnimationFrame: the list is right in a hidden tab too
    }
}

function draw() {
    drawn = false;
    const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
    log.append(...waiting.splice(0).map(entry));
    while (log.childElementCount > MESSAGES) log.firstElementChild.remove();
    $("counted").textContent = `${received} received, ${sent} sent${received + sent > MESSAGES ? `; the last ${MESSAGES} are kept` : ""}`;
    if (atEnd) log.scrollTop = log.scrollHeight;
}

function entry({ kind, data, at }) {
    const meta = element("div", { className: "meta", text: at.toTimeString().slice(0, 8) });
    if (kind !== "note") meta.append(element("b", { text: `${kind === "sent" ? "→" : "←"} ${size(data)}` }));
    const item = element("li", { className: kind }, meta, element("pre", { text: shown(data) }));
    if (kind === "sent") item.ariaLabel = `sent: ${item.lastChild.textContent}`;
    item.data = data;
    return item;
}

/** A message as text, JSON formatted if that is wanted. */
function shown(data) {
    if (typeof data !== "string") return `binary: ${binary(data)}`;
    let text = data;
    if ($("formatted").checked && data.length < 5 * LONGEST && /^\s*[[{]/.test(data)) {
        try {
            text = JSON.stringify(JSON.parse(data), null, 2);
        } catch {
            // it only looks like JSON
        }
    }
    return text.length <= LONGEST ? text : `${text.slice(0, LONGEST)}\n… ${text.length - LONGEST} more characters`;
}

function receive(data) {
    received += 1;
    if (sentAt !== null) {
        $("response").textContent = milliseconds(performance.now() - sentAt);
        sentAt = null;
    }
    add("received", data);
    announce(data);
    if (received === 1 || !bifrost) noticeBifrost(data);
}

/** Say messages to screen readers: the message itself, or only the number if there are many. */
function announce(data) {
    announced += 1;
    if (announceTimer !== null) return;
    const first = data;
    announceTimer = setTimeout(() => {
        const text = announced === 1 ? `received: ${shown(first).slice(0, 300)}` : `${announced} messages received`;
        $("announcer").textContent = text;
        announced = 0;
        announceTimer = null;
    }, 1000);
}

function milliseconds(value) {
    return value < 10 ? `${value.toFixed(1)} ms` : `${Math.round(value)} ms`;
}

function send() {
    const text = $("text").value;
    if (!socket || socket.readyState !== WebSocket.OPEN || text === "") return;
    socket.send(text);
    sent += 1;
    sentAt = performance.now();
    add("sent", text);
    $("text").value = "";
    $("text").focus();
}

$("send-form").addEventListener("submit", (event) => {
    event.preventDefault();
    send();
});
$("text").addEventListener("keydown", (event) => {
    if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
    event.preventDefault();
    send();
});
$("paused").addEventListener("change", () => $("paused").checked || draw());
$("formatted").addEventListener("change", () => {
    for (const item of log.children) item.lastChild.textContent = shown(item.data);
});
$("clear").addEventListener("click", () => {
    log.replaceChildren();
    waiting = [];
    received = sent = 0;
    draw();
    $("text").focus();
});

// --- the state of the server ---

const points = []; // {at, in, out, clients}, the newest at the end
let before = null;
let timer = null;

async function poll() {
    clearTimeout(timer);
    const token = $("token").value.trim();
    const query = $("path").value.split("?")[1];
    let again = true;
    // A token is sent here only after the server has taken it: each wrong one counts as an attempt to guess it.
    if (needsToken && socket?.readyState !== WebSocket.OPEN)
        return trouble("Enter a token and connect to see the state of the server.");
    if (!document.hidden) {
        try {
            const response = await fetch(`/console/state${query ? `?${query}` : ""}`, {
                headers: token && needsToken ? { Authorization: `Bearer ${token}` } : {},
                cache: "no-store",
            });
            if (response.ok) show(await response.json());
            again = response.status !== 403;
            trouble(response.ok ? "" : "The server does not show its state to this page.");
        } catch {
            trouble("The server does not respond.");
        }
    }
    if (again) timer = setTimeout(poll, 1000);
}

function pollSoon() {
    clearTimeout(timer);
    timer = setTimeout(poll, 100);
}

function trouble(text) {
    $("trouble").hidden = text === "";
    if ($("trouble").textContent !== text) $("trouble").textContent = text;
}

function show(state) {
    if (before !== null && state.time > before.time) {
        const seconds = state.time - before.time;
        points.push({
            at: state.time,
            in: Math.max(0, state.received - before.received) / seconds,
            out: Math.max(0, state.sent - before.sent) / seconds,
            clients: state.clients,
        });
        while (points[0].at < state.time - SECONDS) points.shift();
        charts(state.time);
    }
    before = state;
    $("clients").textContent = state.clients;
    $("rooms").textContent = state.rooms;
    rows($("room-list"), (state.room_list ?? []).map(({ name, clients }) => [name, clients]), ([name, clients]) =>
        element("li", {}, element("span", { text: name }), element("b", { text: clients })));
    rows($("client-list"), state.client_list ?? [], person);
    const names = Boolean(state.client_list);
    $("room-empty").textContent = names ? "No room has a client." : "Names are shown in Development only.";
    $("client-empty").textContent = names ? "No client is connected." : "Clients are shown in Development only.";
    $("errors").textContent = state.handler_errors;
}

function person({ address: from, identity, since, path, rooms, latency }) {
    const details = [
        `since ${new Date(since * 1000).toTimeString().slice(0, 8)}`,
        ...(path === "/" ? [] : [path]),
        ...(rooms.length ? [`in ${rooms.join(", ")}`] : []),
        ...(latency > 0 ? [`ping ${milliseconds(1000 * latency)}`] : []),
    ];
    return element("li", {},
        element("b", { text: identity ? `${identity} · ${from}` : from }), element("span", { text: details.join(" · ") }));
}

/** Replace the rows of a list if they differ, so that a reader's place and selection stay. */
function rows(list, items, make) {
    const text = JSON.stringify(items);
    if (list.data === text) return;
    list.data = text;
    list.replaceChildren(...items.map(make));
}

/** Draw lines over the last minute. `top` is the value at the upper edge. */
function lines(svg, now, height, top, series) {
    const x = (at) => (300 * (SECONDS - (now - at))) / SECONDS;
    const y = (value) => height - 2 - ((height - 6) * value) / top;
    svg.replaceChildren(...series.flatMap(([name, values]) => {
        const points = values.map(([at, value]) => `${x(at).toFixed(1)} ${y(value).toFixed(1)}`);
        if (points.length < 2) return [];
        const line = `M${points.join("L")}`;
        const ends = [x(values[0][0]), x(values.at(-1)[0])].map((value) => value.toFixed(1));
        return [`${line}L${ends[1]} ${height}L${ends[0]} ${height}Z`, line].map((d, index) => {
            const path = document.createElementNS("http://www.w3.org/2000/svg", "path");
            path.setAttribute("d", d);
            path.setAttribute("class", index ? name : `area ${name}`);
            return path;
        });
    }));
}

/** The next of 1, 2, 5, 10, ... that is not below a value. */
function ceiling(value) {
    const power = 10 ** Math.floor(Math.log10(Math.max(1, value)));
    return [1, 2, 5, 10].map((factor) => factor * power).find((step) => step >= value);
}

function charts(now) {
    const last = points.at(-1);
    const busiest = ceiling(Math.max(...points.map((point) => Math.max(point.in, point.out))));
    const crowd = ceiling(Math.max(...points.map(({ clients }) => clients)));
    const format = (value) => (value < 10 && value % 1 ? value.toFixed(1) : Math.round(value).toLocaleString("en"));
    lines($("rate"), now, 80, busiest, [
        ["out", points.map((point) => [point.at, point.out])],
        ["in", points.map((point) => [point.at, point.in])],
    ]);
    lines($("crowd"), now, 50, crowd, [["", points.map(({ at, clients }) => [at, clients])]]);
    $("rate-in").textContent = format(last.in);
    $("rate-out").textContent = format(last.out);
    $("rate-top").textContent = `top: ${format(busiest)}`;
    $("crowd-top").textContent = `top: ${format(crowd)}`;
    $("rate").ariaLabel = `${format(last.in)} messages a second from clients, ${format(last.out)} to clients; at most ${format(busiest)} in the last minute`;
    $("crowd").ariaLabel = `${last.clients} clients now`;
}

document.addEventListener("visibilitychange", () => document.hidden || pollSoon());
poll();

// --- the models of zBifrost ---

const policy = globalThis.trustedTypes?.createPolicy("console", { createScriptURL: () => "/bifrost.js" });
let bifrost = null; // the client of zBifrost, with a connection of its own

/** The greeting of zBifrost lists the models that this client may see: then show them. */
function noticeBifrost(data) {
    if (typeof data !== "string" || !data.includes("connection_info")) return;
    try {
        const { event, data: info } = JSON.parse(data);
        if (event === "connection_info" && info?.models?.length) startModels(info.models);
    } catch {
        // a message of another server
    }
}

function startModels(models) {
    if (bifrost) return;
    bifrost = {};
    if (globalThis.BifrostClient) return openModels(models);
    const script = element("script", { src: policy ? policy.createScriptURL("") : "/bifrost.js" });
    script.onload = () => openModels(models);
    script.onerror = () => { bifrost = null; };
    document.head.append(script);
}

function endModels() {
    tables?.end();
    if (bifrost?.disconnect) bifrost.disconnect();
    bifrost = tables = null;
    $("models").hidden = true;
}

let tables = null;

function openModels(models) {
    if (!socket) return void (bifrost = null); // it was closed while the script was loaded
    const token = $("token").value.trim();
    bifrost = new BifrostClient(address(), {
        token: needsToken && token ? token : null,
        tokenIn: "subprotocol",
        autoConnect: true,
        hooks: { onError: (error) => { $("model-error").textContent = error.message; } },
    });
    $("model").replaceChildren(...models.map(({ name }) => element("option", { text: name })));
    const choose = () => {
        tables?.end();
        tables = new Table(bifrost, models.find(({ name }) => name === $("model").value));
    };
    $("model").onchange = choose;
    $("models").hidden = false;
    choose();
}

/** A value as text; empty for null. */
function written(value) {
    if (value === null || value === undefined) return "";
    return typeof value === "object" ? JSON.stringify(value) : String(value).replace(/\.000000Z$/, "Z");
}

/** What a new row gets without a value, or what a value looks like. */
function placeholder({ type, default: preset }) {
    return written(preset) || ({ datetime: "2030-01-31T12:00:00Z", json: "{}" }[type] ?? "");
}

/** The rows of a model as a table: live, a page at a time; one row can be edited, and the last row makes new ones. */
class Table {
    #client;
    #model;
    #fields;
    #key;
    #offset = 0;
    #total = 0;
    #rows = new Map(); // key -> {text, item}
    #editing = null; // the key of the row that is being edited
    #body = element("tbody");
    #new;
    #stop = () => {};

    static SIZE = 25;

    constructor(client, model) {
        this.#client = client;
        this.#model = model;
        this.#fields = Object.entries(model.fields).map(([name, rules]) => ({ name, ...rules }));
        this.#key = model.key;
        const head = this.#fields.map(({ name, type, required, read_only: readOnly }) => {
            const rule = readOnly ? ", by the server" : required ? ", required" : "";
            return element("th", { scope: "col" }, name, element("small", { text: type + rule }));
        });
        const actions = element("th", { scope: "col" }, element("span", { className: "hidden", text: "Actions" }));
        $("table").replaceChildren(
            element("caption", { className: "hidden", text: `Rows of ${model.name}` }),
            element("thead", {}, element("tr", {}, ...head, actions)),
            this.#body,
        );
        this.#new = this.#can("create") ? this.#form({}, "Add", (data) => this.#client.create(model.name, data)) : null;
        this.#new?.classList.add("new");
        $("previous").onclick = () => this.#page(-Table.SIZE);
        $("next").onclick = () => this.#page(Table.SIZE);
        $("model-error").textContent = "";
        this.#page(0);
    }

    end() {
        this.#stop();
        $("table").replaceChildren();
    }

    #can(action) {
        return this.#model.actions.includes(action);
    }

    #page(step) {
        this.#stop();
        this.#offset = Math.max(0, this.#offset + step);
        this.#editing = null;
        const options = { limit: Table.SIZE, offset: this.#offset, order_by: this.#key };
        this.#stop = this.#client.watch(this.#model.name, {}, (rows, total) => this.#show(rows, total), options);
    }

    #show(rows, total) {
        const active = document.activeElement;
        const first = this.#rows.size === 0;
        const items = rows.map((row) => {
            const key = row[this.#key];
            const text = JSON.stringify(row);
            const known = this.#rows.get(key);
            if (known && (known.text === text || this.#editing === key)) return [key, known];
            const item = this.#row(row);
            if (!first) item.className = "changed";
            return [key, { text, item }];
        });
        this.#rows = new Map(items);
        const wanted = [...items.map(([, { item }]) => item), ...(this.#new ? [this.#new] : [])];
        const same = wanted.length === this.#body.childElementCount && wanted.every((item, at) => item === this.#body.children[at]);
        if (!same) {
            this.#body.replaceChildren(...wanted);
            if (active?.isConnected) active.focus(); // moving its row has taken the focus away
        }
        this.#total = total;
        const last = this.#offset + rows.length;
        $("model-note").textContent = total ? `${this.#offset + 1} to ${last} of ${total}` : "no rows yet";
        $("previous").disabled = this.#offset === 0;
        $("next").disabled = last >= total;
    }

    #row(row) {
        const key = row[this.#key];
        const cells = this.#fields.map(({ name }) => {
            const text = written(row[name]);
            return element("td", { className: text ? "value" : "value empty", text: text || "–", title: text });
        });
        const actions = element("td");
        const item = element("tr", {}, ...cells, actions);
        if (this.#can("update")) {
            const edit = element("button", { type: "button", className: "quiet", text: "Edit", ariaLabel: `Edit ${key}` });
            edit.onclick = () => this.#edit(row);
            actions.append(edit);
        }
        if (this.#can("delete")) {
            const remove = element("button", { type: "button", className: "quiet warn", text: "Delete", ariaLabel: `Delete ${key}` });
            remove.onblur = () => { remove.textContent = "Delete"; remove.ariaLabel = `Delete ${key}`; };
            remove.onclick = async () => {
                if (remove.textContent === "Delete") {
                    remove.textContent = "Really?";
                    remove.ariaLabel = `Really delete ${key}?`;
                    return;
                }
                try {
                    await this.#client.delete(this.#model.name, { [this.#key]: key });
                } catch (error) {
                    $("model-error").textContent = error.message;
                }
            };
            actions.append(remove);
        }
        return item;
    }

    #edit(row) {
        const key = row[this.#key];
        const known = this.#rows.get(key);
        const done = () => {
            this.#editing = null;
            const item = this.#row(row);
            form.replaceWith(item);
            this.#rows.set(key, { text: "", item }); // the next reading shows what it is now
            item.querySelector("button")?.focus();
            this.#page(0);
        };
        const form = this.#form(row, "Save", async (data) => {
            if (Object.keys(data).length) await this.#client.update(this.#model.name, { [this.#key]: key }, data);
            done();
        }, done);
        this.#editing = key;
        known.item.replaceWith(form);
        this.#rows.set(key, { text: known.text, item: form });
        form.querySelector("input, select").focus();
    }

    /** A row of inputs. `save(data)` gets what differs from the row. */
    #form(row, verb, save, cancel) {
        const inputs = this.#fields.map((field) => this.#input(field, row[field.name], !cancel));
        const cells = inputs.map(({ cell }) => cell);
        const actions = element("td");
        const item = element("tr", {}, ...cells, actions);
        const submit = async () => {
            $("model-error").textContent = "";
            inputs.forEach((input) => input.complain(""));
            try {
                const data = {};
                for (const { field, read, complain } of inputs) {
                    try {
                        const value = read();
                        if (value !== undefined && value !== (row[field.name] ?? null)) data[field.name] = value;
                    } catch {
                        complain("not valid JSON");
                        return;
                    }
                }
                await save(data);
                if (!cancel) inputs.forEach((input) => input.clear());
            } catch (error) {
                const unnamed = { ...error.fields };
                for (const input of inputs) {
                    input.complain(unnamed[input.field.name] ?? "");
                    delete unnamed[input.field.name];
                }
                if (!Object.keys(error.fields ?? {}).length || Object.keys(unnamed).length)
                    $("model-error").textContent = error.message;
            }
        };
        item.onkeydown = (event) => {
            if (event.key === "Enter" && event.target.tagName !== "BUTTON") submit();
            if (event.key === "Escape" && cancel) cancel();
        };
        const button = element("button", { type: "button", className: "main", text: verb });
        button.onclick = submit;
        actions.append(button);
        if (cancel) {
            const leave = element("button", { type: "button", className: "quiet", text: "Cancel" });
            leave.onclick = cancel;
            actions.append(leave);
        }
        return item;
    }

    #input(field, value, isNew) {
        const { name, type, required, read_only: readOnly } = field;
        const choices = field.enum ?? (type === "bool" ? [true, false] : null);
        const start = written(value);
        if (readOnly || (name === this.#key && !isNew)) {
            const cell = element("td", { className: "value empty", text: start || "–" });
            return { field, cell, read() {}, clear() {}, complain() {} };
        }
        const label = isNew ? `${name} of the new row` : name;
        const input = element(choices ? "select" : "input", { ariaLabel: label });
        if (choices) input.append(...["", ...choices].map((choice) => element("option", { text: String(choice) })));
        input.value = start;
        if (isNew && !choices) input.placeholder = placeholder(field);
        if (required) input.ariaRequired = "true";
        const problem = element("small", { id: `problem-${isNew ? "new" : "row"}-${name}` });
        input.setAttribute("aria-describedby", problem.id);
        const convert = (text) => {
            if (text === "") return isNew ? undefined : null;
            if (type === "int" || type === "float") return Number.isNaN(Number(text)) ? text : Number(text);
            if (type === "bool") return text === "true";
            return type === "json" ? JSON.parse(text) : text;
        };
        return {
            field,
            cell: element("td", {}, input, problem),
            read: () => (input.value === start ? undefined : convert(input.value)),
            clear: () => { input.value = start; },
            complain: (text) => {
                problem.textContent = text;
                input.ariaInvalid = text ? "true" : "false";
            },
        };
    }
}
