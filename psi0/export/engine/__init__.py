"""TensorRT engines from exported graphs: one interface, two back ends."""
