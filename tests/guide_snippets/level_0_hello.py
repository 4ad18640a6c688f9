from zCLI import zCLI

# Familiar zSpark pattern from zConfig
zSpark = {
    "deployment": "Development",  # Show subsystem banners
    "title": "hello-comm",        # Session identifier
    "logger": "PROD",             # Silent console, file-only logging
    "logger_path": "./logs",      # Where logs go
}

# Watch the initialization order in the output:
# [zConfig Ready] → [zComm Ready]

z = zCLI(zSpark)

# zComm is now ready to use!
