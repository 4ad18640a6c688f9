// Shows how many pages are connected, and the messages of all of them. Connects again if the connection is lost.

// The server that sent this page, or if the page was opened as a file, the one that 1_one_port.py starts.
// ?server=... replaces it, if it is on this machine.
const THIS_MACHINE = /^wss?:\/\/(localhost|127\.\d{1,3}\.\d{1,3}\.\d{1,3}|\[::1\])(:\d+)?\/?$/;
const WANTED = new URLSearchParams(location.search).get("server");
const OWN = location.protocol === "file:" ? "ws://127.0.0.1:8765" : location.origin.replace(/^http/, "ws");
const SERVER = (THIS_MACHINE.test(WANTED) ? WANTED : OWN).replace(/\/$/, "") + "/live/";
const MOST_DOTS = 100;
const MOST_MESSAGES = 50;
const MOST_SECONDS = 8;

const element = (id) => document.getElementById(id);
let socket = null;
let seconds = 0.5;

function connect() {
    show("connecting", "Connecting…");
    let hasBeenOpen = false;
    socket = new WebSocket(SERVER);
    socket.onopen = () => {
        hasBeenOpen = true;
        seconds = 0.5;
        show("open", "Connected");
    };
    socket.onmessage = (event) => receive(JSON.parse(event.data));
    socket.onclose = (event) => {
        const why = event.reason || (hasBeenOpen ? "the connection broke" : "no response; is the server running?");
        show("closed", `Closed, code ${event.code} · ${why} · next try in ${seconds} s`);
        setTimeout(connect, seconds * 1000);
        seconds = Math.min(2 * seconds, MOST_SECONDS);
    };
}

function show(state, text) {
    document.body.dataset.state = state;
    element("status").textContent = text;
    element("send").disabled = state !== "open";
}

function receive(event) {
    if (event.clients !== undefined) showCount(event.clients);
    else showMessage(event.message);
}

function showCount(count) {
    element("count").textContent = count;
    element("unit").textContent = count === 1 ? "page connected" : "pages connected";
    const dots = element("dots");
    const wanted = Math.min(count, MOST_DOTS);
    while (dots.children.length > wanted) dots.lastChild.remove();
    while (dots.children.length < wanted) dots.append(document.createElement("i"));
}

function showMessage(text) {
    const messages = element("messages");
    messages.prepend(Object.assign(document.createElement("li"), { textContent: text }));
    while (messages.children.length > MOST_MESSAGES) messages.lastChild.remove();
}

element("server").textContent = SERVER;
element("links").hidden = location.protocol === "file:"; // then zCLI's own server serves WebSockets only
element("send-form").addEventListener("submit", (event) => {
    event.preventDefault();
    const input = element("message");
    if (input.value && socket.readyState === WebSocket.OPEN) socket.send(input.value);
    input.value = "";
});
connect();
