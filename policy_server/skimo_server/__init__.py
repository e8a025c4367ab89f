"""The policy server: bundles, planner and socket. The latency path; never imports torch."""
