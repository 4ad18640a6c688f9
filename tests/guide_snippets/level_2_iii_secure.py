from zCLI import zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-secure",
    "logger": "INFO",
    "logger_path": "./logs",
    "websocket": {
        "require_auth": True,  # 🔒 Enable authentication
        "allowed_origins": [   # 🌐 Which sites can connect?
            "http://localhost",
            "http://127.0.0.1",
            "file://",  # Local HTML files (for this demo)
        ],
    }
}

z = zCLI(zSpark)

async def secure_echo_handler(websocket, message):
    """Only authenticated clients reach this handler."""
    await websocket.send(f"[Secure Echo]: {message}")

# Start secured server - requires token to connect
z.comm.websocket.start(host="127.0.0.1", port=8765, handler=secure_echo_handler)
