"""One file a contender, each with `run(job)`; they import nothing of each other."""
