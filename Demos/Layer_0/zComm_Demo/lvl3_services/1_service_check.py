"""Level 3: is PostgreSQL running, and how would a driver reach it?

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl3_services/1_service_check.py

You see where it is and what it says of itself or, if it is not running, why not and what to do about it.
PGHOST and PGPORT, in the environment or in a .zEnv file, name another place to look at.
"""

from zCLI import print_line, zCLI

z = zCLI({"deployment": "Production", "title": "service-check", "logger": "PROD", "logger_path": "./logs"})

status = z.comm.service_status("postgresql")

if status.get("running"):
    info = z.comm.get_service_connection_info("postgresql")
    print_line(f"✓ PostgreSQL: {info['host']}:{info['port']}")
    print_line(f"  version {status['version'] or 'not told before a login'}, as user {info['user']}")
    print_line(f"  {info['url']}")
else:
    print_line("✗ PostgreSQL not running")
    print_line(f"  {status['error']}")
