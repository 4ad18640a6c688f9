"""The HTTP client and the contract of its transports."""
