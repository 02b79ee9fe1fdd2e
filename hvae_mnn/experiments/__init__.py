"""What is found out with Builds and engines: sweeps, tables of models, explanations, programming."""
