"""Names, addresses and connections: what HTTP, port checks, WebSockets and services share."""
