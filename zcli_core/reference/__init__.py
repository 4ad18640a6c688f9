"""The reference, made from the declarations: hooks, settings, what plugins provide, contracts."""
