"""Carry tensors as safetensors bytes, named by their SHA-256, whatever their size."""
