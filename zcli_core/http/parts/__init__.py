"""What HTTP transports share: everything about a response that is the same whatever engine moves the bytes.

- :mod:`~zcli_core.http.parts.heads`: status line and header fields, and where the body ends
- :mod:`~zcli_core.http.parts.bodies`: a body within its limits, content codings decoded
- :mod:`~zcli_core.http.parts.transport`: kept connections, and when a request is sent again
- :mod:`~zcli_core.http.parts.failures`: the failures and their messages
"""
