"""Level 5.i: one unchanged script that uses other plugins in each deployment.

Run it as in development, and as in production:

    python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/1_swap_by_deployment.py
    ZCLI_DEPLOYMENT=Production python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/1_swap_by_deployment.py

In Development, HTTP calls use urllib3, and clients connect with the token from the .zEnv file beside this script. In
Production, HTTP calls use libcurl, and clients need a signed JSON Web Token. Production needs two extras:
pip install -e '.[curl,jwt]'. To connect, in another terminal:

    zcli ws connect "$(python3 Demos/Layer_0/zComm_Demo/lvl5_plugins/2_client_url.py ada | tail -1)"

The section "deployments" may also be in zConfig.machine.yaml, with other values on each machine.
"""

from pathlib import Path

from zCLI import print_line, zCLI

zSpark = {
    "title": "swap",
    "logger_path": "./logs",
    "env_file": Path(__file__).with_name(".zEnv"),  # this file, not one of the working directory
    "websocket": {"require_auth": True},
    "deployments": {
        "Development": {"http": {"transport": "urllib3"}, "websocket": {"auth": ["token"]}},
        "Production": {
            "http": {"transport": "curl"},
            "websocket": {"auth": ["jwt"]},
            "jwt": {"audience": ["swap"]},
        },
    },
}

z = zCLI(zSpark)


async def greet(websocket, message):
    """Send the message back with the parts that this deployment uses. Only authenticated clients get here."""
    client = z.comm.websocket.auth.get_client_info(websocket)
    await websocket.send(
        f"{client['identity']}, by {client['strategy']}, HTTP over {z.config.http.transport}: {message}"
    )


chosen = z.config.explain("http.transport")
print_line(f"{z.config.deployment}: {chosen.value} (set by {chosen.layer}: {chosen.origin})")
z.comm.websocket.start(handler=greet)
