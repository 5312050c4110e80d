"""Hold what both sides of a federation share: messages, payloads, transports, trust, plans and data sets."""
