from zCLI import zCLI

# Consistent zSpark pattern
zSpark = {
    "deployment": "Production",
    "title": "port-check",
    "logger": "INFO",
    "logger_path": "./logs",
}
z = zCLI(zSpark)

# Check multiple ports
ports = {80: "HTTP", 443: "HTTPS", 5432: "PostgreSQL", 6379: "Redis"}

for port, service in ports.items():
    is_available = z.comm.check_port(port)
    status = "✓ available" if is_available else "✗ in use"
    print(f"Port {port:5} ({service:12}): {status}")
