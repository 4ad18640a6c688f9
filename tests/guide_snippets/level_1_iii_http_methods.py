from zCLI import zCLI

# Consistent zSpark pattern
zSpark = {
    "deployment": "Production",
    "title": "http-methods",
    "logger": "INFO",
    "logger_path": "./logs",
}
z = zCLI(zSpark)

# GET - Retrieve data
response = z.comm.http_get("https://httpbin.org/get", params={"key": "value"})

# POST - Create resource
response = z.comm.http_post("https://httpbin.org/post", data={"name": "Alice"})

# PUT - Update entire resource
response = z.comm.http_put("https://httpbin.org/put", data={"name": "Alice", "role": "Developer"})

# PATCH - Partial update
response = z.comm.http_patch("https://httpbin.org/patch", data={"role": "Tech Lead"})

# DELETE - Remove resource
response = z.comm.http_delete("https://httpbin.org/delete")
