"""Device and circuit physics in numpy, shared by the compiler and the engines."""
