"""Local services: status, start, stop, and the contract of their backends."""
