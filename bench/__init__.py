"""What the plugin costs, measured: `make bench`, or `make bench QUICK=1` for a first look. README and docs/scale.md quote it."""
