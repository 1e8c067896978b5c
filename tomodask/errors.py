"""The one tree of errors.

Each leaf is also the builtin a caller would expect (`ValueError`, `FileNotFoundError`, ...), so
that code which knows nothing of tomodask still catches it. A message names the file, the value
and the remedy.
"""

from __future__ import annotations

__all__ = [
    "ClusterError",
    "ConversionError",
    "DataError",
    "DoubleApplicationError",
    "FormatError",
    "GeometryError",
    "IncompleteError",
    "LockedError",
    "MemoryLimitError",
    "ParameterError",
    "PlanMismatchError",
    "ProductMissingError",
    "SchemaError",
    "ShardAlignmentError",
    "SpaceError",
    "StoreError",
    "TaskError",
    "TomodaskError",
    "TomodaskWarning",
]


class TomodaskError(Exception):
    """Root of all errors that tomodask raises on purpose."""


class FormatError(TomodaskError, ValueError):
    """A file is not what its format says: truncated, corrupt or of an unknown kind."""


class DataError(TomodaskError, ValueError):
    """The values cannot be used: NaN, a constant image, counts that do not match."""


class ParameterError(TomodaskError, ValueError):
    """A parameter has a value that makes no sense here."""


class SchemaError(TomodaskError, ValueError):
    """A dataset lacks a variable of the registry, or holds it with other dims or dtype."""


class GeometryError(TomodaskError, ValueError):
    """A transform cannot be a view of a specimen (singular, mirrored, not finite)."""


class ConversionError(TomodaskError, ValueError):
    """A format cannot hold what the object has, so that writing would lose it."""


class DoubleApplicationError(TomodaskError, ValueError):
    """A step is asked of data to which it has already been applied."""


class _DiskError(TomodaskError, OSError):
    """An error of files: ``(errno, message)`` where the system gave a number."""

    def __str__(self) -> str:
        # OSError puts the number before the message; a message is meant to be read.
        return self.strerror or super().__str__()


class StoreError(_DiskError):
    """A store cannot be read or written."""


class ProductMissingError(TomodaskError, KeyError):
    """A series has no alignment, tomogram or other product of the name asked for."""

    def __str__(self) -> str:
        # KeyError shows the repr of its argument; a message is meant to be read.
        return str(self.args[0]) if self.args else ""


class ShardAlignmentError(TomodaskError, ValueError):
    """A write whose edges do not lie on shard edges, which would lose data."""


class PlanMismatchError(TomodaskError, ValueError):
    """A product begun with other inputs or parameters is asked to be continued."""


class LockedError(TomodaskError, RuntimeError):
    """Another run holds the product."""


class IncompleteError(TomodaskError, RuntimeError):
    """A product is not complete and is asked for as if it were."""


class MemoryLimitError(TomodaskError, MemoryError):
    """A task cannot fit the memory it is given."""


class SpaceError(_DiskError):
    """The disk cannot hold a product."""


class ClusterError(TomodaskError, ConnectionError):
    """The workers of a Dask cluster cannot be reached, or do not start."""


class TaskError(TomodaskError, RuntimeError):
    """Tasks of a run failed; what was finished is kept."""


class TomodaskWarning(UserWarning):
    """Something that need not stop the work and should be looked at."""
