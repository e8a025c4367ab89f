"""Light core of the skimo stack: types, contracts, actuation, control loop, safety, wire and client.

Imports with numpy, pyzmq, msgpack, mcap and PyYAML only; never rclpy, torch, onnxruntime or mujoco.
"""

__version__ = "0.1.0"
