"""Resident ngspice in worker processes."""
