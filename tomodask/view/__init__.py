"""Pictures and words for people: what a series, an alignment and a tomogram look like.

* ``slices``: the few pixels of a lazy array that a picture shows;
* ``plots``: onto Matplotlib axes;
* ``images``: into PNG files;
* ``progress``: how far a run is, on the terminal, in a notebook, in a log;
* ``html``: what a series holds, in a notebook.

Matplotlib and rich are imported when something is drawn, not before.
"""
