"""What a process of the stack owes its machine: its heap, its parent, its ROS domain, its origin."""
