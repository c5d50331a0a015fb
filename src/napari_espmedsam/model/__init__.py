"""ESP-MedSAM and Med-FastSAM as plain PyTorch modules: tensors in, tensors out."""
