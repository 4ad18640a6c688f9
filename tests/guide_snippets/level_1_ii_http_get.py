from zCLI import zCLI

# Consistent zSpark pattern
zSpark = {
    "deployment": "Production",
    "title": "http-get",
    "logger": "INFO",
    "logger_path": "./logs",
}
z = zCLI(zSpark)

# Notice the https:// - secure, encrypted connection
url = "https://httpbin.org/get"

# Make GET request with query parameters
response = z.comm.http_get(url, params={"demo": "zComm", "level": "1"})

if response:
    data = response.json()
    print(f"Server received: {data.get('args')}")
