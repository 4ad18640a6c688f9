"""Authentication of WebSocket clients: the contract of auth strategies, and code that they share."""
