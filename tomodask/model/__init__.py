"""What a tilt series, an alignment, landmarks and a tomogram are.

* ``registry``: the variables of every dataset, and the check against them;
* ``alignments``: the projection that an alignment is;
* ``ctf``: the contrast transfer of every view;
* ``landmarks``: landmarks as a table, and edits of it;
* ``series``: the parts of an opened series;
* ``provenance``: what a result says of its origin.
"""

from tomodask.model.alignments import (
    alignment_dataset,
    nominal_projection,
    projection_of,
    thickness_of,
)
from tomodask.model.ctf import ctf_dataset, handedness_of, optics_of, transfers_at_origin
from tomodask.model.landmarks import (
    carry_edits,
    edit_landmarks,
    history_of,
    landmarks_dataset,
    measured_observations,
    missing_views,
    observation_index,
    undo_edit,
)
from tomodask.model.provenance import provenance
from tomodask.model.registry import (
    CHECKSUMS,
    REGISTRY,
    SCHEMA_VERSION,
    SLAB,
    Group,
    Variable,
    layer_depth,
    validate,
    variable_attributes,
)
from tomodask.model.series import (
    EditKind,
    edits_of,
    mark_edited,
    mark_stored,
    sections_of,
    series_path,
    stored_folder,
    tilt_series_of,
    views_of,
    views_with_image,
)

__all__ = [
    "CHECKSUMS",
    "REGISTRY",
    "SCHEMA_VERSION",
    "SLAB",
    "EditKind",
    "Group",
    "Variable",
    "alignment_dataset",
    "carry_edits",
    "ctf_dataset",
    "edit_landmarks",
    "edits_of",
    "handedness_of",
    "history_of",
    "landmarks_dataset",
    "layer_depth",
    "mark_edited",
    "mark_stored",
    "measured_observations",
    "missing_views",
    "nominal_projection",
    "observation_index",
    "optics_of",
    "projection_of",
    "provenance",
    "sections_of",
    "series_path",
    "stored_folder",
    "thickness_of",
    "tilt_series_of",
    "transfers_at_origin",
    "undo_edit",
    "validate",
    "variable_attributes",
    "views_of",
    "views_with_image",
]
