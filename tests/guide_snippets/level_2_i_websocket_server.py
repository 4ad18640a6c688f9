from zCLI import zCLI

# Initialize zCLI - gets WebSocket infrastructure
z = zCLI({
    "deployment": "Production",
    "title": "websocket-server",
    "logger": "PROD",
    "logger_path": "./logs",
})

# Start WebSocket server - zCLI handles async internally
z.comm.websocket.start(host="127.0.0.1", port=8765)
