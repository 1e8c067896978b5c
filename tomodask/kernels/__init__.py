"""Arrays in, arrays out: NumPy, SciPy and numba, nothing of Dask, xarray, Zarr or files."""
