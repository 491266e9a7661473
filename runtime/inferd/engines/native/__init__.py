"""The native engine: scheduler, decoder and sampler in one loop."""
