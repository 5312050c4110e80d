"""Keep a log of who asked what, who decided what and what left, in which nothing can be changed unnoticed."""
