"""Backplanes: the link between the WebSocket servers of several processes."""
