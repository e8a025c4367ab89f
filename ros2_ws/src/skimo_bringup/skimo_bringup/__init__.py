"""The assembled stack: carries the launch files, and starts and supervises them on hosts without ROS's own launch.

Why not circus or supervisord: they open control sockets that let any local user run commands, they cannot end a whole
stack, with its reason, when one vital process dies, and circus restarts by count only, not by count in a minute.
What is needed fits in supervise.py.
"""
