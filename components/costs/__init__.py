"""What training costs, before anyone pays for it: parameters, bytes, FLOPs, memory per GPU, hours."""
