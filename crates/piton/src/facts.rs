//! Facts about this host, for the planner.
