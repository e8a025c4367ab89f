"""Room in shared memory for a process that publishes images.

Fast DDS, ROS's default middleware, cuts a message into pieces of 64 KiB and passes them through shared memory of
512 KiB (Fast DDS documentation, "Shared Memory Transport", segment_size). Of an image sent best effort, whatever finds
no room is dropped, and the image with it: of two cameras' images of 960 x 720 px in colour, less than half arrive on a
quiet machine. The memory is the sender's, so receivers need nothing.
"""

from __future__ import annotations

import os
from pathlib import Path

PROFILE = Path(__file__).with_suffix(".xml")
PROFILE_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")
"""The first one is read up to Fast DDS 2, the second one from 2.14 on."""
OWN_CHOICES = (*PROFILE_VARIABLES, "FASTDDS_BUILTIN_TRANSPORTS")


def make_room() -> bool:
    """Give this process's Fast DDS memory for images; before `rclpy.init`.

    Returns:
        Whether it was given: not where the environment chooses its own profile or transports.
    """
    if any(os.environ.get(name) for name in OWN_CHOICES):
        return False
    os.environ.update(dict.fromkeys(PROFILE_VARIABLES, str(PROFILE)))
    return True
