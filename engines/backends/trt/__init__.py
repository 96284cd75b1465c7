"""TensorRT, used directly.

Two families of releases are supported, and one environment holds one of them: 10.13 to 10.16, whose libraries ONNX Runtime's TensorRT
provider can use too, and 11, which only this backend uses.  What both have in common is in :mod:`api`; nothing else is touched.

Networks are strongly typed: the graph's types are the precision.  A build runs in a child process, since it may end the process it
runs in; an engine is opened in ours, after the driver was asked.
"""
