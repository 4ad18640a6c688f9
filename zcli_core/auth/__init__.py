"""Authentication of WebSocket clients: the contract of strategies, and what they share."""
