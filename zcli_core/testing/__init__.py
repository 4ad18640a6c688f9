"""For plugin authors: suites that tell whether a plugin keeps its contract. They need pytest."""
