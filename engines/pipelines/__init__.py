"""What differs between families of diffusers directories: components, networks, prompts, schedulers.  ``engines.pipeline`` joins them."""
