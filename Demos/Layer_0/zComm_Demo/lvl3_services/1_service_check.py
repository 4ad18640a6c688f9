"""Level 3: is PostgreSQL running, and how would a driver reach it?

Run it:

    python3 Demos/Layer_0/zComm_Demo/lvl3_services/1_service_check.py

You see where it is and what it says of itself or, if it is not running, why not and what to do about it.
PGHOST and PGPORT, in the environment or in a .zEnv file, name another place to look at.
"""

from zCLI import zCLI

z = zCLI({"deployment": "Production", "title": "service-check", "logger": "PROD", "logger_path": "./logs"})

status = z.comm.service_status("postgresql")

if status.get("running"):
    info = z.comm.get_service_connection_info("postgresql")
    print(f"✓ PostgreSQL: {info['host']}:{info['port']}")
    print(f"  version {status['version'] or 'not told before a login'}, as user {info['user']}")
    print(f"  {info['url']}")
else:
    print("✗ PostgreSQL not running")
    print(f"  {status['error']}")
