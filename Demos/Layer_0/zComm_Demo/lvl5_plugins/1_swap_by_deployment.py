"""Level 5.i: other plugins in Production than in Development, without changing a line of code.

The settings are in zConfig.machine.yaml beside this script, where an administrator would have them in /etc/xdg/zcli:
Development serves over wsproto and knows one token, Production serves over picows and wants a JSON Web Token. Both come
as extras: pip install 'zcli-core[fast,jwt]'. Run it twice, from the repository's root, and end it with Ctrl+C:

    export ZCLI_CONFIG_DIR=Demos/Layer_0/zComm_Demo/lvl5_plugins
    ZCLI_DEPLOYMENT=Development python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/1_swap_by_deployment.py
    ZCLI_DEPLOYMENT=Production python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/1_swap_by_deployment.py

Say something to it from another terminal; with anything else for a token you are refused, with the close code 1008:

    echo hello | zcli ws connect ws://127.0.0.1:8765 --token development-only
    echo hello | zcli ws connect ws://127.0.0.1:8765 --token "$(python3 -c "import jwt, time; print(jwt.encode(
        {'sub': 'alice', 'aud': 'swap-demo', 'exp': time.time() + 60}, 'published, so it protects nothing at all'))")"

And ask who decided it:

    ZCLI_DEPLOYMENT=Production zcli plugins --why websocket.transport
"""

from zCLI import zCLI

z = zCLI({"title": "swap-by-deployment", "logger": "INFO", "logger_path": "./logs"})

transport = z.config.explain("websocket.transport")
print(f"{z.config.deployment}: {transport.value}, says {transport.origin}")


async def echo_handler(websocket, message):
    """Whoever reaches this handler has been let in by the strategy that is in force."""
    client = z.comm.websocket.auth.get_client_info(websocket)
    await websocket.send(f"{client['identity']}: {message}")


z.comm.websocket.start(handler=echo_handler)
