"""fvit_ior: rehearsal of inverted objects."""
