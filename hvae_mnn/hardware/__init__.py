"""Every number of the circuit: sections, units, phases of a cycle, rules, files, presets."""
