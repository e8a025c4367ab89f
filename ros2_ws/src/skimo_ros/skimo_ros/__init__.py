"""ROS 2 nodes of skimo; importing the package itself needs no ROS."""
