"""Networks, their gradients and guided steps as ONNX graphs.  ``export.export`` is the door; the other modules are its parts."""
