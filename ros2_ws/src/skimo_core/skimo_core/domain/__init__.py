"""What a lab brings, as data: channels and sub-tasks, robots, cells."""
