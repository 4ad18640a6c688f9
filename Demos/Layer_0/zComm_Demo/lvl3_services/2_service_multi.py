"""Level 3: the services of a development machine.

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl3_services/2_service_multi.py

You see a line for each service. The last line comes from health_check_all(), which checks all of them at once.
"""

from zCLI import print_line, zCLI

z = zCLI({"deployment": "Production", "title": "service-multi", "logger": "PROD", "logger_path": "./logs"})

services = {
    "postgresql": "PostgreSQL Database",
    "redis": "Redis Cache",
    "mongodb": "MongoDB Database",
}

for service_name, description in services.items():
    status = z.comm.service_status(service_name)
    if status.get("running"):
        info = z.comm.get_service_connection_info(service_name)
        print_line(f"✓ {description}: {info['host']}:{info['port']}")
    else:
        print_line(f"✗ {description}: Not running")

ready = [name for name, is_ready in z.comm.health_check_all().items() if is_ready]
print_line(f"Ready: {', '.join(ready) or 'none of them'}")
