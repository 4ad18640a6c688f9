from zCLI import zCLI

zSpark = {
    "websocket": {
        "port": 8766,
        "require_auth": True,  # Token auth from .zEnv
        "ssl_enabled": True,  # 🔒 Opt-in to SSL/TLS
        "ssl_cert": "certs/demo.cert",
        "ssl_key": "certs/demo.key",
        "allowed_origins": [
            "https://localhost",  # Note: https (not http)
            "https://127.0.0.1",
            "file://",
        ],
    }
}

z = zCLI(zSpark)
z.comm.websocket.start(host="127.0.0.1", port=8766, handler=my_handler)
