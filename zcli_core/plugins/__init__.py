"""The plugin host: hookspecs, discovery, loading, and the choice of providers by name."""
