//! CUDA kernels and their typed launches, one folder per kernel. None yet: see the README of this folder.
