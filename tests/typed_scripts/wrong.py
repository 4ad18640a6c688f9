# pyright: strict
"""Wrong uses of the public API. Type checkers must find the mistake that the comment of a line names, and no other."""

from zCLI import BlockingConnection, ZSpark, zCLI

z = zCLI({})
z.comm.http_get(utl="https://api.example/")  # utl
z.comm.http_get("https://api.example/", timout=5)  # timout
z.comm.http_post("https://api.example/", timeout="5")  # timeout
z.comm.http_request("GET", "https://api.example/", verify=False)  # verify
print(z.comm.http_get("https://api.example/").text)  # None
print(z.comm.service_status("redis")["runing"])  # runing
z.comm.service_status("redis")["ready"].upper()  # upper
print(z.comm.service_status("redis")["state"] == "redy")  # redy
z.comm.service_status(1)  # service_status
z.comm.start_service("redis", prot=6380)  # prot
z.comm.start_service("redis", timeout="5")  # timeout
z.comm.stop_service("redis", launcher="local")  # launcher
z.comm.check_port("8080")  # check_port
z.comm.websocket.start_background(port="8765")  # port
z.config.http.timeout.upper()  # upper
zCLI("production")  # str
z.walkr.run()  # walkr
z.bifrost.onn("greet")  # onn
z.bifrost.publish("news", too=None)  # too
z.subsystem("greeter", dict).greet()  # greet
mode: ZSpark = {"zMode": "zbifrost"}  # zbifrost
deployment: ZSpark = {"deployment": "Prodution"}  # Prodution
section: ZSpark = {"http": {"tiemout": 5}}  # tiemout
value: ZSpark = {"websocket": {"port": "8765"}}  # "int
overlay: ZSpark = {"deployments": {"Production": {"logger": "LOUD"}}}  # LOUD


def handler(websocket: BlockingConnection) -> None:
    websocket.sent("hello")  # sent


z.comm.websocket.start(handler=handler)  # handler
