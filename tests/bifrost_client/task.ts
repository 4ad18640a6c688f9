// What tsc must accept, and the errors that it must find: an unused @ts-expect-error is an error too.
import BifrostClient = require("./bifrost.js");
import { BifrostError } from "./bifrost.js";

interface Task { id: number; title: string; done: boolean }

const client = new BifrostClient("ws://localhost:8765", {
    token: async () => "a token",
    hooks: { onDisconnected: ({ final, retryIn }) => console.log(final, retryIn) },
});

export async function run(): Promise<number> {
    const info: BifrostClient.ConnectionInfo = await client.connect();
    const { rows, total } = await client.read<Task>("tasks", { done: false, id: ["in", [1, 2]] }, { order_by: "-id" });
    const title: string = rows[0]!.title;
    const made: Task[] = await client.create<Task>("tasks", { title });
    const changed: number = await client.update("tasks", { id: made[0]!.id }, { done: true });
    const stop = client.subscribe("tasks", null, ({ action, rows }) => action === "insert" && rows?.length);
    await stop.ready;
    stop();
    const off: () => void = client.on<{ text: string }>("chat", ({ text }) => text.length);
    off();
    client.watch<Task>("tasks", {}, ([first]) => first?.title);
    client.registerHook("onError", (error) => error instanceof BifrostError && error.code === "conflict");
    const greeting = await client.send<{ hello: string }>({ event: "greet", name: info.server_version });
    // @ts-expect-error - there is no such hook
    client.registerHook("onDisplay", () => {});
    // @ts-expect-error - there is no such operator
    await client.read("tasks", { id: ["between", 1] });
    // @ts-expect-error - the client counts
    client.seen = 3;
    // @ts-expect-error - a request has an event
    await client.send({ name: "Ann" });
    return total + changed + greeting.hello.length;
}
