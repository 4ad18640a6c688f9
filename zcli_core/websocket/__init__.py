"""The WebSocket server and the contract of its transports."""
