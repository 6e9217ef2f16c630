"""One thread for each notebook: what is stored, tested and measured is the same run.

Sums depend on how many threads share them, in the last digits, and training makes
more of that. And kernels run side by side: threads of BLAS and TensorFlow that wait
for each other take the processor from the others.
"""

ONE_THREAD = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
}
