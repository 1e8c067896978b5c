"""An out-of-core, Dask-parallel engine for cryo-electron tomography."""
