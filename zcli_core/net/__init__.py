"""Connecting to other programs: names, addresses, ports, TLS."""
