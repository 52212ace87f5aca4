"""How models run: precision, batch sizes, CUDA graphs and fused layers."""
