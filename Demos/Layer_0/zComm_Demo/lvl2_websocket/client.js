// The display of the demo pages: the state of the connection, the messages, and the meaning of a close code.
// Each page has its own code for the connection to the server.

const STATES = { idle: "Not connected", connecting: "Connecting…", open: "Connected", closed: "Closed", refused: "Refused" };

const CODES = {
    1000: "closed normally",
    1001: "the server shut down",
    1006: "no response, or the connection broke",
    1008: "not accepted",
    1009: "a message was too large",
    1011: "error in the server",
    1013: "the server is full, or this page read too slowly",
};

// The page sends the token to the server, so a link to this page must not select a server on another machine.
const THIS_MACHINE = /^wss?:\/\/(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d+)?\/?$/;

class Page {
    // `server` is the URL of the demo. ?server=... in the address of the page replaces it, if it is on this machine.
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

    // A server that refuses a client opens the connection and closes it at once, with a code that a page can read.
    // So a connection counts as open only after it has stayed open for a moment.
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

    // Shows a CloseEvent, with the hint if the connection never opened.
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

// Calls a function when a button is clicked.
function onClick(id, action) {
    document.getElementById(id).addEventListener("click", action);
}

// Calls a function with each message that the user sends.
function onSend(action) {
    const input = document.getElementById("message");
    document.getElementById("send-form").addEventListener("submit", (event) => {
        event.preventDefault();
        if (input.value) action(input.value);
        input.value = "";
    });
}
