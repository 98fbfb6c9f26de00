"""The table of bad input, by what is bad, and the small project that it is tried on."""
