"""Parts for building a WebSocket transport on asyncio; a transport may use all, some or none of them.

A transport that uses them all brings a decoder (bytes to events) and its way of sending, and is given the rest:

- :mod:`.listening`: binding, keepalive, stopping;
- :mod:`.opening`: the request, the core's decision and the answer; :mod:`.upgrade` is its sans-IO half;
- :mod:`.openings`: how many connections that are not let in there may be; :mod:`.addresses`: whose they are;
- :mod:`.connection`: delivery, the close handshake and its time limit; :mod:`.sending`: slow readers, bursts, pings;
- :mod:`.events`, :mod:`.frames`, :mod:`.pings` and :mod:`.progress`: what they are made of.

``zcli_wsproto`` is the example. Nothing of this is imported before a transport is.
"""
