"""Collect the subcommands of ``zcli``, which it imports by name."""

from PyInstaller.utils.hooks import collect_submodules

hiddenimports = collect_submodules("zcli_core.cli", filter=lambda name: ".templates" not in name)
