"""How fast the engines are, beside what a user would run instead: ``make bench``."""
