"""What fits: memory per device, n_gpu_layers, the quant, the speed to expect."""
