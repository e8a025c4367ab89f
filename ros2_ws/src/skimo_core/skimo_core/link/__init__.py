"""Between two processes: what a message is, who may send it, and how long an answer is waited for."""
