"""Subsystems: attributes of the ``zCLI`` object that plugins provide."""
