"""Definitions of the messages that recordings of arms commonly hold, for bags that don't carry them.

Bags in SQLite3 made before ROS 2 Iron have no definitions. The fields are those of ROS 2's common_interfaces, geometry2
and control_msgs, unchanged since Foxy, and of this project's skimo_msgs; tests hold them together with their sources.
"""

from __future__ import annotations

COMMON: dict[str, str] = {
    "std_msgs/Header": """
builtin_interfaces/Time stamp
string frame_id
""",
    "std_msgs/Bool": """bool data""",
    "std_msgs/Float32": """float32 data""",
    "std_msgs/Float64": """float64 data""",
    "std_msgs/Int8": """int8 data""",
    "std_msgs/Int16": """int16 data""",
    "std_msgs/Int32": """int32 data""",
    "std_msgs/Int64": """int64 data""",
    "std_msgs/UInt8": """uint8 data""",
    "std_msgs/UInt16": """uint16 data""",
    "std_msgs/UInt32": """uint32 data""",
    "std_msgs/UInt64": """uint64 data""",
    "std_msgs/String": """string data""",
    "std_msgs/Empty": """""",
    "std_msgs/MultiArrayDimension": """
string label
uint32 size
uint32 stride
""",
    "std_msgs/MultiArrayLayout": """
MultiArrayDimension[] dim
uint32 data_offset
""",
    "std_msgs/Float32MultiArray": """
MultiArrayLayout layout
float32[] data
""",
    "std_msgs/Float64MultiArray": """
MultiArrayLayout layout
float64[] data
""",
    "std_msgs/Int32MultiArray": """
MultiArrayLayout layout
int32[] data
""",
    "std_msgs/Int64MultiArray": """
MultiArrayLayout layout
int64[] data
""",
    "geometry_msgs/Vector3": """
float64 x
float64 y
float64 z
""",
    "geometry_msgs/Vector3Stamped": """
std_msgs/Header header
Vector3 vector
""",
    "geometry_msgs/Point": """
float64 x
float64 y
float64 z
""",
    "geometry_msgs/PointStamped": """
std_msgs/Header header
Point point
""",
    "geometry_msgs/Quaternion": """
float64 x
float64 y
float64 z
float64 w
""",
    "geometry_msgs/QuaternionStamped": """
std_msgs/Header header
Quaternion quaternion
""",
    "geometry_msgs/Pose": """
Point position
Quaternion orientation
""",
    "geometry_msgs/PoseStamped": """
std_msgs/Header header
Pose pose
""",
    "geometry_msgs/PoseArray": """
std_msgs/Header header
Pose[] poses
""",
    "geometry_msgs/PoseWithCovariance": """
Pose pose
float64[36] covariance
""",
    "geometry_msgs/PoseWithCovarianceStamped": """
std_msgs/Header header
PoseWithCovariance pose
""",
    "geometry_msgs/Transform": """
Vector3 translation
Quaternion rotation
""",
    "geometry_msgs/TransformStamped": """
std_msgs/Header header
string child_frame_id
Transform transform
""",
    "geometry_msgs/Twist": """
Vector3 linear
Vector3 angular
""",
    "geometry_msgs/TwistStamped": """
std_msgs/Header header
Twist twist
""",
    "geometry_msgs/TwistWithCovariance": """
Twist twist
float64[36] covariance
""",
    "geometry_msgs/Accel": """
Vector3 linear
Vector3 angular
""",
    "geometry_msgs/AccelStamped": """
std_msgs/Header header
Accel accel
""",
    "geometry_msgs/Wrench": """
Vector3 force
Vector3 torque
""",
    "geometry_msgs/WrenchStamped": """
std_msgs/Header header
Wrench wrench
""",
    "sensor_msgs/JointState": """
std_msgs/Header header
string[] name
float64[] position
float64[] velocity
float64[] effort
""",
    "sensor_msgs/MultiDOFJointState": """
std_msgs/Header header
string[] joint_names
geometry_msgs/Transform[] transforms
geometry_msgs/Twist[] twist
geometry_msgs/Wrench[] wrench
""",
    "sensor_msgs/Imu": """
std_msgs/Header header
geometry_msgs/Quaternion orientation
float64[9] orientation_covariance
geometry_msgs/Vector3 angular_velocity
float64[9] angular_velocity_covariance
geometry_msgs/Vector3 linear_acceleration
float64[9] linear_acceleration_covariance
""",
    "sensor_msgs/Joy": """
std_msgs/Header header
float32[] axes
int32[] buttons
""",
    "sensor_msgs/Range": """
std_msgs/Header header
uint8 radiation_type
float32 field_of_view
float32 min_range
float32 max_range
float32 range
""",
    "sensor_msgs/Temperature": """
std_msgs/Header header
float64 temperature
float64 variance
""",
    "trajectory_msgs/JointTrajectoryPoint": """
float64[] positions
float64[] velocities
float64[] accelerations
float64[] effort
builtin_interfaces/Duration time_from_start
""",
    "trajectory_msgs/JointTrajectory": """
std_msgs/Header header
string[] joint_names
JointTrajectoryPoint[] points
""",
    "nav_msgs/Odometry": """
std_msgs/Header header
string child_frame_id
geometry_msgs/PoseWithCovariance pose
geometry_msgs/TwistWithCovariance twist
""",
    "nav_msgs/Path": """
std_msgs/Header header
geometry_msgs/PoseStamped[] poses
""",
    "tf2_msgs/TFMessage": """geometry_msgs/TransformStamped[] transforms""",
    "std_msgs/ColorRGBA": """
float32 r
float32 g
float32 b
float32 a
""",
    "skimo_msgs/ObjectStates": """
std_msgs/Header header
string[] names
float32[] values
""",
    "skimo_msgs/GripperCommand": """
std_msgs/Header header
uint8 kind
float64 width_m
float64 speed_m_s
float64 force_n
""",
}
