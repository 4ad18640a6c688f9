"""Level 0: the page asks, the script answers.

Run it, and open 1_client_hello.html of the same folder:

    python3 Demos/Layer_2/zBifrost_Demo/lvl0_hello/1_hello.py

http://127.0.0.1:8765 is the console of the server: it shows clients and messages, and sends what you type, such as
{"event": "greet", "name": "Ann", "_requestId": 1}.
"""

from zCLI import zCLI

z = zCLI({"zMode": "zBifrost", "title": "hello-bifrost", "logger_path": "./logs"})


@z.bifrost.on("greet")
async def greet(client, data):
    """Answer the page that asks, and let all other pages know."""
    await z.bifrost.broadcast("greeted", {"name": data["name"]}, exclude=client)
    return {"hello": data["name"]}


z.walker.run()
