"""Frames weighted by what radiation has left of each frequency.

The signal at frequency k fades with the dose D as exp(-D / (2 Nc(k))), where the critical dose
is :math:`N_c(k) = 0.24499 k^{-1.6649} + 2.8141` e/A^2 at 300 kV and k in 1/A ([1]_). The weight
of a frame is this factor at the dose at the frame's end, as in the programs of the method's
authors, RELION and AreTomo. At other voltages the critical dose is a multiple of this one: 0.8
at 200 kV, as all of them have it, 0.64 at 100 kV as in RELION; at 120 kV AreTomo's 0.45 ...

References
----------
.. [1] Grant, T. and Grigorieff, N., eLife 4 (2015) e06980, doi:10.7554/eLife.06980.
"""
