"""Work that a client's or a model's own program decides, in processes that can be ended.

pool     who may work now: queues by client, limits, replacement
share    how much each client had done lately
worker   one process, from our side
child    the process itself
frames   what crosses the pipes between them
"""
