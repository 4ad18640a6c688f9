"""Configuration: declared settings, layers with provenance, explanation."""
