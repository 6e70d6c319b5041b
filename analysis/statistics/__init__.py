"""Statistics that every analysis shares; pure, on numbers and small tables.

What scipy, statsmodels, scikit-learn or krippendorff have is taken from there.
"""
