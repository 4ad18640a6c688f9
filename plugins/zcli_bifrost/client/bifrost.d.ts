/** Types of bifrost.js. */

declare class BifrostClient {
    /** @param url URL of the server; `http://` and `https://` are read as `ws://` and `wss://`. */
    constructor(url?: string, options?: BifrostClient.Options);

    static readonly BifrostClient: typeof BifrostClient;

    readonly url: string;
    /** The highest version of the data in any message of the server; null before the first. */
    readonly seen: number | null;
    /** What the server said about itself and about this client; null before the first connection. */
    readonly info: BifrostClient.ConnectionInfo | null;

    /** Connect, and stay connected until `disconnect()`. Rejected if the server refuses this client. */
    connect(): Promise<BifrostClient.ConnectionInfo>;
    /** Close the connection and do not reconnect. */
    disconnect(): void;
    isConnected(): boolean;

    /** Send a request and return its `result`; `timeout` is in milliseconds. */
    send<Result = unknown>(payload: BifrostClient.Request, timeout?: number): Promise<Result>;

    create<Row extends object = BifrostClient.Row>(model: string, data: Partial<Row> | Partial<Row>[]): Promise<Row[]>;
    read<Row extends object = BifrostClient.Row>(
        model: string,
        filters?: BifrostClient.Filters,
        options?: BifrostClient.ReadOptions,
    ): Promise<BifrostClient.Page<Row>>;
    update(model: string, filters: BifrostClient.Filters, data: BifrostClient.Row): Promise<number>;
    delete(model: string, filters: BifrostClient.Filters): Promise<number>;

    /** Call the handler for each message with this event; the result ends it. */
    on<Data = unknown>(event: string, handler: (data: Data, message: BifrostClient.Message) => unknown): () => void;
    /** Call the handler when rows of the model change, and after a reconnect; the result ends it. */
    subscribe(
        model: string,
        filters: BifrostClient.Filters | null | undefined,
        handler: (change: BifrostClient.Change) => unknown,
    ): BifrostClient.Unsubscribe;
    /** Keep a list of rows up to date; the result ends it. */
    watch<Row extends object = BifrostClient.Row>(
        model: string,
        filters: BifrostClient.Filters | null | undefined,
        handler: (rows: Row[], total: number) => unknown,
        options?: BifrostClient.ReadOptions,
    ): () => void;

    registerHook<Name extends keyof BifrostClient.Hooks>(name: Name, hook: NonNullable<BifrostClient.Hooks[Name]>): void;
    unregisterHook(name: keyof BifrostClient.Hooks): boolean;
    listHooks(): (keyof BifrostClient.Hooks)[];
}

declare namespace BifrostClient {
    interface Options {
        /** Connect at once (false). */
        autoConnect?: boolean;
        /** Connect again after the connection was lost, except after a refusal: 1008 and 4000 to 4999 (true). */
        autoReconnect?: boolean;
        /** A request that is sent after each connecting; its response is ignored (null). */
        autoRequest?: Request | null;
        /** The longest first delay before an attempt to reconnect, in milliseconds; it doubles each time (3000). */
        reconnectDelay?: number;
        /** The longest delay before an attempt to reconnect, in milliseconds (30000). */
        maxReconnectDelay?: number;
        /** How long a request and the server's greeting may take, in milliseconds (30000). */
        timeout?: number;
        /** After how much silence to ask the server for a sign of life, in milliseconds; 0 turns it off (30000). */
        heartbeat?: number;
        /** The token, or a function that gives one for each attempt to connect (null). */
        token?: string | null | (() => string | null | Promise<string | null>);
        /** Send the token as `?token=` or, if the server requires authentication, as a subprotocol ("query"). */
        tokenIn?: "query" | "subprotocol";
        hooks?: Hooks;
        /** Write what happens to the browser's console (false). */
        debug?: boolean;
        /** The class to connect with, such as that of the package `ws`; the global `WebSocket` if not given. */
        WebSocket?: unknown;
    }

    interface Hooks {
        onConnecting?: (url: string) => unknown;
        onConnected?: (connection: Connected) => unknown;
        onDisconnected?: (closed: Disconnected) => unknown;
        /** Each message of the server, before anything else is done with it; what is not JSON as it came. */
        onMessage?: (message: unknown) => unknown;
        /** Each message that is not the response to a request. */
        onBroadcast?: (message: unknown) => unknown;
        onError?: (error: Error) => unknown;
    }

    interface Connected {
        url: string;
        protocol: string;
        readyState: number;
        info: ConnectionInfo;
    }

    interface Disconnected {
        code: number;
        reason: string;
        wasClean: boolean;
        /** Whether there will not be another attempt. */
        final: boolean;
        /** Milliseconds until the next attempt; null if there is none. */
        retryIn: number | null;
    }

    interface ConnectionInfo {
        server_version: string;
        [name: string]: unknown;
    }

    interface Request {
        event: string;
        [name: string]: unknown;
    }

    interface Message {
        event: string;
        data?: unknown;
        _version?: number;
    }

    interface Row {
        [field: string]: unknown;
    }

    type Operator = "=" | "!=" | "<" | "<=" | ">" | ">=" | "in" | "like";
    type Value = string | number | boolean | null;
    type Filters = { [field: string]: Value | [Operator, Value | Value[]] };

    interface ReadOptions {
        fields?: string[];
        order_by?: string | string[];
        limit?: number;
        offset?: number;
        cache_ttl?: number;
        no_cache?: boolean;
    }

    interface Page<Row> {
        rows: Row[];
        total: number;
    }

    interface Change {
        model: string;
        /** `refresh`: changes may have been missed, as after a reconnect, so read again. */
        action: "insert" | "update" | "delete" | "refresh";
        /** The rows after an `insert` or `update`. */
        rows?: Row[];
        /** The keys of the rows after a `delete`. */
        keys?: unknown[];
        version?: number;
    }

    interface Unsubscribe {
        (): void;
        /** Resolves once the server has agreed, and is rejected if it does not. */
        ready: Promise<void>;
    }

    type Code =
        | "not_found" | "invalid" | "forbidden" | "conflict" | "too_many" | "failed"
        | "not_connected" | "outcome_unknown" | "timeout" | "refused";

    class BifrostError extends Error {
        constructor(code: Code, message: string, fields?: { [field: string]: string });
        code: Code;
        /** What is wrong with which field, if the server says so. */
        fields: { [field: string]: string };
    }
}

export = BifrostClient;
export as namespace BifrostClient;
