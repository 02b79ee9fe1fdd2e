"""The controller: gates and cell state, fixed point, vocabulary projection."""
