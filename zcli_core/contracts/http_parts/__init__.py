"""What HTTP transports share: everything about a response that is the same whatever engine moves the bytes.

- :mod:`~zcli_core.contracts.http_parts.heads`: status line and header fields, and where the body ends
- :mod:`~zcli_core.contracts.http_parts.bodies`: a body within its limits, content codings decoded
- :mod:`~zcli_core.contracts.http_parts.transport`: kept connections, and when a request is sent again
- :mod:`~zcli_core.contracts.http_parts.failures`: the failures and their messages
"""
