"""Results for people.

console   tables in the terminal                      markdown  the most important rows, as Markdown
compare   two result files: which ratios fell?        plots     rows and tables as PNG
"""
