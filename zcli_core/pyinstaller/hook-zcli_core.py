"""Collect every plugin that is installed where the program is built: its metadata and its files.

zCLI finds a plugin by its metadata. Its files are what it reads besides modules, such as the page of the console.
"""

from importlib.metadata import entry_points

from PyInstaller.utils.hooks import collect_data_files, collect_entry_point

datas, hiddenimports = collect_entry_point("zcli")
for entry_point in entry_points(group="zcli"):
    datas += collect_data_files(entry_point.module.partition(".")[0])
