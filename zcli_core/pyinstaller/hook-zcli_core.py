"""Collect every plugin that is installed where the program is built, with the metadata that zCLI finds it by."""

from PyInstaller.utils.hooks import collect_entry_point

datas, hiddenimports = collect_entry_point("zcli")
