from zCLI import zCLI

# Define what happens when client sends a message
async def echo_handler(websocket, message):
    """Echo messages back to the client."""
    echo_msg = f"Echo: {message}"
    await websocket.send(echo_msg)

z = zCLI({
    "deployment": "Production",
    "title": "websocket-echo",
    "logger": "INFO",
    "logger_path": "./logs",
})

# Pass the handler to start()
z.comm.websocket.start(host="127.0.0.1", port=8765, handler=echo_handler)
