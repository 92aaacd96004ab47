"""One thin stepper per backend: the loop's requests in the words of a framework."""
