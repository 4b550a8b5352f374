"""The vocabulary: every option once, its grammar, and the way from argv to the neutral spec."""
