"""How a step runs: memory known before, regions written once, a ledger that makes it resumable.

The engine knows tasks and shards, not what they hold.
"""
