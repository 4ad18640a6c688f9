"""The WebSocket server's core: who may enter, and what happens to messages."""
