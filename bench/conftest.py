"""`pytest bench` times the hot paths; the claims beside them are run by `fpsolve validate`."""

collect_ignore = ["validate"]
