"""What the kernel of every notebook gets, to be stored, tested and measured alike.

One thread: sums depend on how many threads share them, in the last digits, and training
makes more of that. And kernels run side by side: threads of BLAS and TensorFlow that
wait for each other take the processor from the others.

oneDNN: by itself TensorFlow switches it on only where an x86 processor has instructions
made for neural networks (AVX-512 VNNI, AMX). It is faster on the others, too.
"""

KERNEL_VARIABLES = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "TF_ENABLE_ONEDNN_OPTS": "1",
}
