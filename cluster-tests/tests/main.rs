//! Real waxwing processes on loopback, real faults, and what their clients saw of it.
