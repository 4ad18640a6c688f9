"""The contract suite of WebSocket transports, and the client and server that it uses."""
