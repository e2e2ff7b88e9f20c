"""Many timings, compared: every engine and run in a process of its own, in shuffled rounds, on a machine left to itself."""
