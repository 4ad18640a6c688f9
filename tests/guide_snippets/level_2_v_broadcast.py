from zCLI import zCLI

zSpark = {
    "deployment": "Production",
    "title": "websocket-broadcast",
    "logger": "INFO",
    "logger_path": "./logs",
    "websocket": {
        "require_auth": True,  # 🔒 All clients must authenticate
        "allowed_origins": [
            "file://",  # Allow local HTML files
        ],
    }
}

z = zCLI(zSpark)

# Define broadcast handler
async def broadcast_handler(websocket, message):
    """Broadcast messages to all connected clients."""
    client_addr = websocket.remote_address
    broadcast_msg = f"{client_addr[0]} says: {message}"
    
    # Use zComm broadcast primitive (excludes sender)
    count = await z.comm.websocket.broadcast(broadcast_msg, exclude=websocket)
    print(f"Broadcasted to {count} client(s)")

# Start with broadcast handler - zCLI handles async internally
z.comm.websocket.start(
    host="127.0.0.1",
    port=8765,
    handler=broadcast_handler
)
