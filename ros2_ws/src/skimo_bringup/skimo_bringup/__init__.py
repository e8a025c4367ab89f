"""The assembled stack: carries the launch files, runs whole stacks for evaluation and for the demo."""
