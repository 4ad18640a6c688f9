"""Level 5.i: one script, other parts for each deployment, and not a line of it changed.

Run it as a developer would, and as it would run in production:

    python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/1_swap_by_deployment.py
    ZCLI_DEPLOYMENT=Production python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/1_swap_by_deployment.py

Development is pure Python, and a token from the .zEnv beside this script admits anybody who knows it. Production takes
the parser in C and asks for a JSON Web Token that is signed; they come with the extras fast and jwt:
pip install 'zcli-core[fast,jwt]'. To connect, in another terminal:

    zcli ws connect "$(python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/2_who_may_enter.py ada | tail -1)"

The overlays could as well stand in zConfig.machine.yaml, where each machine has its own.
"""

from zCLI import zCLI

zSpark = {
    "title": "swap",
    "logger_path": "./logs",
    "websocket": {"require_auth": True},
    "deployments": {
        "Development": {"websocket": {"transport": "wsproto", "auth": ["token"]}},
        "Production": {"websocket": {"transport": "picows", "auth": ["jwt"]}, "jwt": {"audience": ["swap"]}},
    },
}

z = zCLI(zSpark)


async def greet(websocket, message):
    """Whoever is here has shown what this deployment asks for."""
    client = z.comm.websocket.auth.get_client_info(websocket)
    await websocket.send(
        f"{client['identity']}, by {client['strategy']} over {z.config.websocket.transport}: {message}"
    )


chosen = z.config.explain("websocket.transport")
print(f"{z.config.deployment}: {chosen.value} (set by {chosen.layer}: {chosen.origin})", flush=True)
z.comm.websocket.start(handler=greet)
