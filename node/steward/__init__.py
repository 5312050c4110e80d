"""What the people of a node do: the rule, the change and the audit entry of each act in one call.

The command line and the web page of the node call these classes and nothing below them, so no rule exists twice. Each object knows
a home and who acts; it holds nothing else open, so threads may share one, and any number of processes may act at once beside the
agent: what must not interleave happens in one transaction of the registry, or alone in the home.
"""
