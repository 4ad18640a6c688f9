"""Level 1: which well-known ports are in use on this machine?

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl1_network/1_port_check.py

You see a line for each port. A port is available if no program holds it; the command `zcli ports 80 443` also
names the program. To see one in use, run `python3 -m http.server 8080` in another terminal.
"""

from zCLI import print_line, zCLI

zSpark = {
    "deployment": "Production",  # no banners
    "title": "port-check",
    "logger": "INFO",
    "logger_path": "./logs",
}
z = zCLI(zSpark)

ports = {80: "HTTP", 443: "HTTPS", 5432: "PostgreSQL", 6379: "Redis", 8080: "Development", 27017: "MongoDB"}

for port, service in ports.items():
    status = "✓ available" if z.comm.check_port(port) else "✗ in use"
    print_line(f"Port {port:5} ({service:12}): {status}")
