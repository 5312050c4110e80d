"""Show Warren at work: four real hospitals train one model over a private broker on this machine."""
