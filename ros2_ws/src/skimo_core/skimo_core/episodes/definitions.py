"""The text of skimo_msgs/EpisodeStep as an MCAP schema, so that recordings need no ROS to be written.

The fields are those of ros2_ws/src/skimo_msgs/msg/EpisodeStep.msg; a test holds the two together.
"""

from __future__ import annotations

SEPARATOR = "=" * 80

EPISODE_STEP_TYPE = "skimo_msgs/msg/EpisodeStep"

EPISODE_STEP = f"""std_msgs/Header header
string episode_id
uint32 step
string kind
string reason
float32[] observation
float32[] action_proposed
float32[] action_applied
float32[] skill
uint32 step_in_skill
float32 reward
uint8 verdict
string bundle_id
float32[] promise
{SEPARATOR}
MSG: std_msgs/Header
builtin_interfaces/Time stamp
string frame_id
{SEPARATOR}
MSG: builtin_interfaces/Time
int32 sec
uint32 nanosec
"""
