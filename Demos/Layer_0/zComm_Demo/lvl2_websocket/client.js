// What the demos' pages show: the state of the line, what was said, what a close code means.
// How to speak to the server is in each page itself; it is a dozen lines.

const STATES = { idle: "Not connected", connecting: "Connecting…", open: "Connected", closed: "Closed", refused: "Refused" };

const CODES = {
    1000: "said goodbye",
    1001: "the server was shut down",
    1006: "nobody answered, or the connection broke",
    1008: "not let in",
    1009: "a message was too big",
    1011: "the server had a problem",
    1013: "the server is full, or this page read too slowly",
};

// The token that is typed in goes to the server: a link to this page must not choose another machine for it.
const THIS_MACHINE = /^wss?:\/\/(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d+)?\/?$/;

class Page {
    // `server` is where the demo listens; a page opened with ?server=... asks there instead, if it is on this machine.
    constructor(server) {
        const wanted = new URLSearchParams(location.search).get("server");
        this.server = THIS_MACHINE.test(wanted) ? wanted : server;
        this.transcript = document.getElementById("transcript");
        document.getElementById("server").textContent = this.server;
        this.show("idle");
    }

    show(state, detail = "") {
        document.body.dataset.state = state;
        const [name, text] = document.getElementById("status").children;
        name.textContent = STATES[state];
        text.textContent = detail;
        const busy = state === "connecting" || state === "open";
        this.enable("connect", !busy);
        this.enable("disconnect", busy);
        this.enable("send", state === "open");
        if (state === "open") document.getElementById("message").focus();
    }

    connecting() {
        this.wasOpen = false;
        this.show("connecting", this.server);
    }

    // A server that refuses opens the line and closes it at once, with a code that a page can read: that it opened
    // says nothing until it has stayed open for a moment.
    opened(socket, detail) {
        setTimeout(() => {
            if (socket.readyState !== WebSocket.OPEN) return;
            this.wasOpen = true;
            this.show("open", detail);
            this.note(`connected: ${detail}`);
        }, 100);
    }

    sent(text) {
        this.add("sent", text, "you");
        this.pulse("");
    }

    received(text, from = "server") {
        this.add("received", text, from);
        this.pulse("back");
    }

    // Shows a CloseEvent; the hint is for a line that never opened.
    closed(event, hint = "") {
        const refused = event.code === 1008 || event.code === 1013;
        const why = [`code ${event.code}`, event.reason || CODES[event.code], event.code === 1006 && !this.wasOpen ? hint : ""];
        const detail = why.filter(Boolean).join(" · ");
        this.show(refused ? "refused" : "closed", detail);
        this.note(detail, refused || event.code === 1006);
    }

    note(text, bad = false) {
        this.add(bad ? "note bad" : "note", text);
    }

    add(kind, text, from) {
        const item = document.createElement("li");
        item.className = kind;
        if (from) {
            const time = new Date().toLocaleTimeString();
            item.append(Object.assign(document.createElement("small"), { textContent: `${from} · ${time}` }));
        }
        item.append(text);
        this.transcript.append(item);
        this.transcript.scrollTop = this.transcript.scrollHeight;
    }

    pulse(direction) {
        const dot = document.createElement("i");
        dot.className = direction;
        dot.addEventListener("animationend", () => dot.remove());
        document.querySelector(".wire").append(dot);
    }

    enable(id, on) {
        document.getElementById(id).disabled = !on;
    }
}

// Calls a function on a click, and `onSay` with what was typed.
function onClick(id, action) {
    document.getElementById(id).addEventListener("click", action);
}

function onSay(action) {
    const input = document.getElementById("message");
    document.getElementById("say").addEventListener("submit", (event) => {
        event.preventDefault();
        if (input.value) action(input.value);
        input.value = "";
    });
}
