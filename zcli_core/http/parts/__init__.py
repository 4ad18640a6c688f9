"""Code that HTTP transports share, because it does not depend on the library that moves the bytes.

- :mod:`~zcli_core.http.parts.heads`: status line and header fields, and where the body ends
- :mod:`~zcli_core.http.parts.bodies`: response bodies with their limits, and request bodies with their length
- :mod:`~zcli_core.http.parts.codings`: decoding content codings
- :mod:`~zcli_core.http.parts.transport`: kept connections, and when a request is sent again
- :mod:`~zcli_core.http.parts.proxies`: proxies from the environment
- :mod:`~zcli_core.http.parts.failures`: the failures and their messages
"""
