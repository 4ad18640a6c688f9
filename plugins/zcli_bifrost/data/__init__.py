"""The data library of zBifrost: models, tables, reads and writes, access rules, the change table and the cache.

It needs SQLAlchemy and does not know WebSockets. :class:`zcli_bifrost.data.service.DataService` is its front, and
:func:`zcli_bifrost.data.opening.open_data` makes one from the settings.
"""
