"""Level 3: is PostgreSQL running, and how does a driver reach it?

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl3_services/1_service_check.py

You see its address and version or, if it is not running, the reason and what to do about it.
PGHOST and PGPORT, in the environment or in a .zEnv file, name another server.
"""

from zCLI import print_line, zCLI

z = zCLI({"deployment": "Production", "title": "service-check", "logger": "PROD", "logger_path": "./logs"})

status = z.comm.service_status("postgresql")

if status.get("running"):
    info = z.comm.get_service_connection_info("postgresql")
    print_line(f"✓ PostgreSQL: {info['host']}:{info['port']}")
    print_line(f"  version {status['version'] or 'unknown before a login'}, as user {info['user']}")
    print_line(f"  {info['url']}")
else:
    print_line("✗ PostgreSQL not running")
    print_line(f"  {status['error']}")
